"""Metrics of the evaluation, all by torch-fidelity on the classifier's features (method §9)."""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from dd2core.errors import DD2Error
from dd2core.tools.images import to_float
from train.data.enough import FEWEST
from train.measure.classifier import Classifier, ClassifierFeatures


class Images(Dataset):
    """uint8 images (N, channels, H, W) as torch-fidelity wants a data set."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


@dataclass(frozen=True)
class Fidelity:
    """Distance of samples to the reference.

    Attributes:
        fd: Fréchet distance of the features.
        fd_percent: fd in percent of the reference features' total variance.
        precision, recall: of the features' manifolds, k = 3.
    """

    fd: float
    fd_percent: float
    precision: float
    recall: float


def extractor_name(model: Classifier) -> str:
    """Register the classifier with torch-fidelity (once) and return its name there."""
    name = f"classifier-{id(model)}"
    if name not in FEATURE_EXTRACTORS_REGISTRY:
        bound = type("BoundFeatures", (ClassifierFeatures,), {"classifier": model})
        register_feature_extractor(name, bound)
    return name


def fidelity(images: Tensor, reference: Tensor, model: Classifier) -> Fidelity:
    """FD, precision and recall of uint8 images (N, channels, H, W) against a reference set."""
    _enough(images, reference)
    cuda = next(model.parameters()).is_cuda
    with measurable():
        metrics = calculate_metrics(
            input1=Images(images), input2=Images(reference), fid=True, prc=True, cuda=cuda,
            feature_extractor=extractor_name(model), batch_size=256, cache=False, verbose=False,
            save_cpu_ram=True,
        )
        fd = metrics["frechet_inception_distance"]
        percent = 100 * fd / total_variance(reference, model)
    return Fidelity(fd, percent, metrics["precision"], metrics["recall"])


def _enough(images: Tensor, reference: Tensor) -> None:
    if min(len(images), len(reference)) < FEWEST:
        raise DD2Error(f"{len(images)} samples against {len(reference)} reference images cannot be "
                       f"measured: at least {FEWEST} of each are needed.")


@contextlib.contextmanager
def measurable():
    """One sentence where features have no statistics to compare: not finite, or all the same."""
    try:
        yield
    except np.linalg.LinAlgError:
        raise DD2Error("The features of samples or reference are not finite: train the classifier "
                       "anew, or replace the weights of the extractor.") from None
    except ZeroDivisionError:
        raise DD2Error("The features of all reference images are the same: give more and other "
                       "pictures.") from None


@torch.no_grad()
def total_variance(images: Tensor, model: Classifier) -> float:
    """Trace of the covariance of the features of uint8 images."""
    device = next(model.parameters()).device
    x = torch.cat([model.features(to_float(a).to(device)).cpu() for a in images.split(256)])
    return x.double().var(0).sum().item()


