"""Both feature extractors of a model folder, and the same images measured by each.

The first, `classifier`, is the one by which the shipped settings were found, so it flatters them;
the second, `judge`, has another architecture and another seed (method §9).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.results.schema import Verdict
from dd2core.store.names import CLASSIFIER, JUDGE, weights
from dd2core.tools.images import to_float
from train.data.fashion import Data
from train.measure.classifier import Classifier, find_classifier, find_judge
from train.measure.frechet import fidelity


@dataclasses.dataclass(frozen=True)
class Extractors:
    """`classifier` measures always, `judge` beside it where there is one."""

    classifier: Classifier
    judge: Classifier | None = None

    def by_name(self) -> dict[str, Classifier]:
        """Those that are there, by name."""
        return {CLASSIFIER: self.classifier} | ({JUDGE: self.judge} if self.judge else {})


def load_extractors(folder: Path, device: torch.device) -> Extractors:
    """The extractors of a model folder.

    Raises:
        DD2Error: it has no classifier, or a damaged one.
    """
    known, second = find_classifier(folder), find_judge(folder)
    if known is None:
        raise DD2Error(f"{folder} has no classifier: run the stage classifier, then export.")
    return Extractors(known[0].to(device), second[0].to(device) if second else None)


def numbers_of(images: Tensor, labels: Tensor, data: Data, extractors: Extractors) -> dict:
    """The fields of a `Measurement` that say how uint8 images (N, channels, H, W) compare with the
    held-out ones of `data`; `judge` is None where there is none."""
    found = {name: _numbers(images, labels, data, model, name)
             for name, model in extractors.by_name().items()}
    second = found.get(JUDGE)
    return found[CLASSIFIER] | {"judge": Verdict(**second) if second else None}


def _numbers(images: Tensor, labels: Tensor, data: Data, model: Classifier, name: str) -> dict:
    """FD, precision, recall, and the accuracy of the model on the images."""
    device = next(model.parameters()).device
    right = sum((model(to_float(x.to(device))).argmax(-1).cpu() == y).sum().item()
                for x, y in zip(images.split(256), labels.split(256), strict=True))
    return {**dataclasses.asdict(fidelity(images, data.test_images, model)),
            "accuracy": right / len(images),
            "extractor": f"penultimate features of {weights(name)}"}


@torch.no_grad()
def features(model: Classifier, images: Tensor,
             prepare: Callable[[Tensor], Tensor] = to_float) -> Tensor:
    """Features (N, F) of images (N, channels, H, W) on the CPU, 256 at a time.

    Args:
        model (Classifier): of F features.
        images (Tensor): uint8, or whatever `prepare` turns into floats in [−1, 1].
        prepare (Callable): see there.
    """
    device = next(model.parameters()).device
    return torch.cat([model.features(prepare(x.to(device))).cpu() for x in images.split(256)])
