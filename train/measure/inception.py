"""FID, Inception Score, precision and recall, as the literature on ImageNet reports them.

Network and formulas are torch-fidelity's: `inception-v3-compat` is the network of the original
TensorFlow code, also ADM's, with its resizing. FID, precision and recall take the 2048 features of
the last pooling, the Inception Score the logits without bias.
"""

import http.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.families.checkpoints import read_state
from train.data.batches import spaced
from train.measure.frechet import measurable
from train.measure.reference import Reference

NAME = "inception-v3-compat"
LAYERS = ["2048", "logits_unbiased"]
MOST = 10_000  # reference images for precision and recall: as many as ADM's reference batches have
SPLITS = 10  # of the Inception Score


@dataclass(frozen=True)
class InceptionNumbers:
    """How samples compare with a reference.

    Attributes:
        fd: Fréchet inception distance (FID).
        fd_percent: fd in percent of the reference features' total variance.
        inception_score, inception_score_std: mean and deviation over ten parts of the samples.
        precision, recall: of the features' manifolds, k = 3; None without reference images.
    """

    fd: float
    fd_percent: float
    inception_score: float
    inception_score_std: float
    precision: float | None
    recall: float | None


def load_inception(weights: str | None, device: torch.device) -> nn.Module:
    """torch-fidelity's Inception: uint8 (B, 3, H, W) → features (B, 2048), logits (B, 1008).

    Args:
        weights (str | None): file of its weights; None: torch-fidelity downloads them, once.
        device (torch.device): where it goes.

    Raises:
        DD2Error: there are no weights, or they are of another network.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise DD2Error(f"inception={weights} is not there: download {URL_INCEPTION_V3} and "
                           "name that file.")
        read_state(path)  # torch-fidelity unpickles it without restrictions: first see it is safe
        weights = str(path)
    kept = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    try:
        network = FeatureExtractorInceptionV3(NAME, LAYERS, feature_extractor_weights_path=weights,
                                              verbose=False)
    except (OSError, http.client.HTTPException) as error:
        raise DD2Error(
            f"Inception's weights are not here and cannot be downloaded ({error}): get "
            f"{URL_INCEPTION_V3} elsewhere, and put it at {kept} or give inception=FILE."
        ) from None
    except Exception as error:  # torch.load and load_state_dict raise many kinds; all mean this
        raise DD2Error(
            f"{weights or kept} does not hold the weights of {NAME} ({type(error).__name__}): "
            f"replace it by {URL_INCEPTION_V3}."
        ) from None
    return network.to(device)


@torch.no_grad()
def features(network: nn.Module, images: Iterable[Tensor], n: int, what: str
             ) -> tuple[Tensor, Tensor]:
    """Features (n, 2048) and logits (n, 1008) of batches of uint8 images, on the CPU.

    Args:
        network (nn.Module): see `load_inception`.
        images (Iterable[Tensor]): uint8 (B, 3, H, W) each.
        n (int): images in all, for the progress bar, which counts them.
        what (str): its name.
    """
    device, parts = next(network.parameters()).device, []
    with tqdm(total=n, desc=what, mininterval=2.0, disable=n < 10_000) as bar:
        for x in images:
            parts.append([a.cpu() for a in network(x.to(device))])
            bar.update(len(x))
    pooled, logits = (torch.cat(a) for a in zip(*parts, strict=True))
    return pooled, logits


def compare(network: nn.Module, images: Iterable[Tensor], n: int, reference: Reference
            ) -> InceptionNumbers:
    """All numbers of n ≥ 10 samples, batches of uint8 (B, 3, H, W), against a reference."""
    x, logits = features(network, images, n, "features of samples")
    score = isc_features_to_metric(logits, SPLITS)
    y = None
    if reference.read is not None:
        y, _ = features(network, reference.read(), reference.n, "features of reference")
    given = {"mu": reference.mu, "sigma": reference.sigma}
    real = _statistics(y) if reference.mu is None else given
    with measurable():
        fd = fid_statistics_to_metric(_statistics(x), real, False)["frechet_inception_distance"]
        percent = 100 * fd / float(real["sigma"].trace())
    prc = {"precision": None, "recall": None}
    if y is not None:
        pick = spaced(MOST, len(y))  # a folder is sorted by class
        prc = prc_features_to_metric(x, y[pick], save_cpu_ram=True, verbose=False)
    return InceptionNumbers(fd, percent, score["inception_score_mean"],
                            score["inception_score_std"], prc["precision"], prc["recall"])


def _statistics(x: Tensor) -> dict:
    return fid_features_to_statistics(x.double())  # a float32 mean of 50,000 rows drifts
