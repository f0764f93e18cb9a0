"""The feature extractors of the evaluation: small classifiers, and their torch-fidelity wrapper.

Inception means nothing on 28-pixel clothes, so Fréchet distance ("FD"), precision and recall are
taken on a classifier's penultimate features (method §9). A model folder may hold two: `classifier`,
and `judge`, of another architecture and seed, by which nothing was chosen.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from dd2core.novelty.classifier import (
    ARCHITECTURES,
    Classifier,
    Residual,
    find_classifier,
    find_extractor,
)
from dd2core.store.files import check_manifest
from dd2core.store.names import JUDGE, JUDGE_SETTINGS
from dd2core.tools.images import to_float
from train.settings.schema import Config

__all__ = ["ARCHITECTURES", "Classifier", "ClassifierFeatures", "Residual", "find_classifier",
           "find_judge", "sizes_of"]


def sizes_of(cfg: Config, classes: int) -> dict:
    """The arguments of the `Classifier` that the section `classifier` describes."""
    o = cfg.classifier
    return {"image_channels": cfg.channels, "width": o.width, "features": o.features,
            "num_classes": classes, **({} if o.arch == "plain" else {"arch": o.arch})}


def find_judge(folder: Path) -> tuple[Classifier, dict] | None:
    """The second extractor of a model folder, see `find_classifier`; its sizes are in judge.json.

    Raises:
        DD2Error: it, or what tells of it, is damaged.
    """
    told = folder / JUDGE_SETTINGS
    if not told.is_file():
        return None
    check_manifest(folder, [told.name])
    return find_extractor(folder, JUDGE, told)


class ClassifierFeatures(FeatureExtractorBase):
    """The classifier as torch-fidelity wants a feature extractor: uint8 images in, a tuple out.

    torch-fidelity builds it by itself, so a subclass carries the network as `classifier`.
    """

    classifier: Classifier

    def __init__(self, name: str, features_list: list[str], **kwargs):
        super().__init__(name, features_list)
        self.model = self.classifier.eval()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The only layer: the penultimate one."""
        return ("penultimate",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The penultimate layer, whatever the metric."""
        return "penultimate"

    @staticmethod
    def can_be_compiled() -> bool:
        """Not worth it at this size."""
        return False

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, channels, H, W) → ((B, features),)."""
        return (self.model.features(to_float(images)).float(),)
