"""Metrics of the evaluation, all by torch-fidelity on the classifier's features (design §9)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from dd2core.losses import weighted_error
from dd2core.schedule import add_noise
from dd2core.trainer import ScoreOptions, draw, teacher_denoiser, teacher_log_probs, token_entropy
from train.data import to_float
from train.features import Classifier, ClassifierFeatures


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
    cuda = next(model.parameters()).is_cuda
    found = calculate_metrics(
        input1=Images(images), input2=Images(reference), fid=True, prc=True, cuda=cuda,
        feature_extractor=extractor_name(model), batch_size=256, cache=False, verbose=False,
        save_cpu_ram=True,
    )
    fd = found["frechet_inception_distance"]
    return Fidelity(fd, 100 * fd / total_variance(reference, model), found["precision"],
                    found["recall"])


@torch.no_grad()
def total_variance(images: Tensor, model: Classifier) -> float:
    """Trace of the covariance of the features of uint8 images."""
    device = next(model.parameters()).device
    x = torch.cat([model.features(to_float(a).to(device)).cpu() for a in images.split(256)])
    return x.double().var(0).sum().item()


@dataclass(frozen=True)
class Agreement:
    """How a set of tokens looks to the teacher (design §9).

    Attributes:
        nll: the teacher's guided negative log-likelihood, nats per token; tokens that top-k or
            top-p exclude make it infinite, so it is taken with both off.
        entropy: of the marginal token distribution, nats.
    """

    nll: float
    entropy: float


@torch.no_grad()
def agreement(teacher, tokens: Tensor, labels: Tensor, cfg: float, batch: int) -> Agreement:
    """NLL and entropy of tokens (N, L) with labels (N,), on the teacher's device."""
    total = 0.0
    for x, y in zip(tokens.split(batch), labels.split(batch), strict=True):
        x, y = x.to(teacher.device), y.to(teacher.device)
        log_p = teacher.log_probs(x, y, cfg)
        total -= log_p.gather(-1, x[..., None]).double().sum().item()
    nll = total / tokens.numel()
    return Agreement(nll if math.isfinite(nll) else float("nan"), token_entropy(tokens).item())


@torch.no_grad()
def posterior_floor(teacher, tokens: Tensor, labels: Tensor, cfg: float, o: ScoreOptions) -> float:
    """FCS loss of the teacher's own score on its own tokens (n, L): the floor of (5)."""
    o = ScoreOptions(o.times, o.t_min, o.t_max, cfg, o.chunk)
    losses = []
    for x, y in zip(tokens.split(200), labels.split(200), strict=True):
        x, y = x.to(teacher.device), y.to(teacher.device)
        codes = teacher.codebook[x]
        eps, t = draw(codes, o)
        d = teacher_denoiser(teacher, teacher_log_probs(teacher, x, y, o), o)
        losses.append(weighted_error(d(add_noise(codes, eps, t), t), codes, t).item())
    return sum(losses) / len(losses)
