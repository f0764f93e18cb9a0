"""Small classifiers as feature extractors: the networks, and finding a model folder's.

Inception means nothing on 28-pixel clothes, so distances between images are taken on a classifier's
penultimate features (method §9).
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.store.files import check_manifest, load_strict, read_json, read_tensors
from dd2core.store.names import CLASSIFIER, CONFIG, weights


def plain(image_channels: int, width: int) -> tuple[nn.Sequential, int]:
    """Three levels of two convolutions; the body, and the channels it ends with."""
    layers, c = [], image_channels
    for level in range(3):
        for stride in (1, 2):
            layers += [nn.Conv2d(c, width << level, 3, stride, padding=1),
                       nn.BatchNorm2d(width << level), nn.ReLU()]
            c = width << level
    return nn.Sequential(*layers), c


class Residual(nn.Module):
    """Two convolutions of 3 by 3 beside a way past them."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm2d(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out), nn.SiLU(), nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False))
        self.past = nn.Identity() if c_in == c_out and stride == 1 else \
            nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) → (B, c_out, H/stride, W/stride), rounded up."""
        return self.past(x) + self.inner(x)


def residual(image_channels: int, width: int) -> tuple[nn.Sequential, int]:
    """A convolution of 5 by 5, then three levels of residual blocks; see `plain`."""
    top = width << 2
    return nn.Sequential(
        nn.Conv2d(image_channels, width, 5, 2, padding=2), Residual(width, width, 1),
        Residual(width, width << 1, 2), Residual(width << 1, top, 2), nn.BatchNorm2d(top),
        nn.SiLU()), top


ARCHITECTURES = {"plain": plain, "residual": residual}


class Classifier(nn.Module):
    """A body of convolutions, its mean over the image, then `features` numbers, then the classes.

    Args:
        image_channels (int): 1 grey, 3 RGB.
        width (int): channels of the first level; doubled at each of the next two.
        features (int): penultimate features.
        num_classes (int): classes.
        arch (str): of the body, one of `ARCHITECTURES`.

    Raises:
        DD2Error: an unknown architecture.
    """

    def __init__(self, image_channels: int, width: int, features: int, num_classes: int,
                 arch: str = "plain"):
        super().__init__()
        if arch not in ARCHITECTURES:
            raise DD2Error(f"arch={arch} is unknown: use {' or '.join(ARCHITECTURES)}.")
        self.body, c = ARCHITECTURES[arch](image_channels, width)
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
    return find_extractor(folder, CLASSIFIER, folder / CONFIG)


def find_extractor(folder: Path, name: str, told: Path) -> tuple[Classifier, dict] | None:
    """The extractor `name`, whose sizes the file `told` holds as `classifier`."""
    sizes = read_json(told).get("classifier")
    if sizes is None:
        return None
    path = folder / weights(name)
    check_manifest(folder, [path.name])
    try:
        model = Classifier(**sizes)
    except (TypeError, RuntimeError, ValueError, ArithmeticError) as error:
        raise DD2Error(f"{told} is not a model's: its classifier cannot be of these "
                       f"sizes ({str(error).splitlines()[0]}).") from None
    load_strict(model, read_tensors(path), str(path))
    return model.requires_grad_(False).eval(), sizes
