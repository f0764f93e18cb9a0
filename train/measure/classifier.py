"""The feature extractor of the evaluation: a small classifier, and its torch-fidelity wrapper.

Inception means nothing on 28-pixel clothes, so Fréchet distance ("FD"), precision and recall are
taken on this classifier's penultimate features (method §9).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from dd2core.errors import DD2Error
from dd2core.store.files import check_manifest, load_strict, read_json, read_tensors
from dd2core.store.names import CLASSIFIER, CONFIG, weights
from dd2core.tools.images import to_float


class Classifier(nn.Module):
    """Three levels of convolutions, then `features` numbers, then the classes.

    Args:
        image_channels (int): 1 grey, 3 RGB.
        width (int): channels of the first level; doubled at each of the next two.
        features (int): penultimate features.
        num_classes (int): classes.
    """

    def __init__(self, image_channels: int, width: int, features: int, num_classes: int):
        super().__init__()
        layers, c = [], image_channels
        for level in range(3):
            for stride in (1, 2):
                layers += [nn.Conv2d(c, width << level, 3, stride, padding=1),
                           nn.BatchNorm2d(width << level), nn.ReLU()]
                c = width << level
        self.body = nn.Sequential(*layers)
        self.penultimate = nn.Linear(c, features)
        self.classes = nn.Linear(features, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [−1, 1] → (B, features)."""
        return F.relu(self.penultimate(self.body(images).mean((2, 3))))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [−1, 1] → logits (B, classes)."""
        return self.classes(F.dropout(self.features(images), 0.3, self.training))


def find_classifier(folder: Path) -> tuple[Classifier, dict] | None:
    """The feature extractor of a model folder, frozen, and its sizes; None if it has none.

    Raises:
        DD2Error: it, or what tells of it, is damaged.
    """
    check_manifest(folder, [CONFIG])
    sizes = read_json(folder / CONFIG).get("classifier")
    if sizes is None:
        return None
    path = folder / weights(CLASSIFIER)
    check_manifest(folder, [path.name])
    try:
        model = Classifier(**sizes)
    except (TypeError, RuntimeError, ValueError) as error:
        raise DD2Error(f"{folder / CONFIG} is not a model's: its classifier cannot be of these "
                       f"sizes ({str(error).splitlines()[0]}).") from None
    load_strict(model, read_tensors(path), str(path))
    return model.requires_grad_(False).eval(), sizes


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
