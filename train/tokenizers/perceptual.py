"""The perceptual term: distance of pictures in the features of a frozen network, as in LPIPS.

At several layers the channels of every position are brought to unit length; the squared distance is
summed over channels, averaged over positions, and averaged over layers. No weights are learned.
"""

import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.store.files import load_strict, read_tensors
from dd2core.store.names import CLASSIFIER
from train.engine.paths import perceptual_file
from train.measure.classifier import Classifier, Residual, sizes_of
from train.settings.schema import Config

VGG_LAYERS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
VGG_MEAN, VGG_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VGG_SMALLEST = 16  # pixels a side: it halves four times before its last layer here


class Perceptual(nn.Module):
    """Distance of two batches of images in the features of a frozen network.

    Args:
        layers (nn.Sequential): the network.
        taken (tuple[int, ...]): the layers whose output counts.
        mean, std (tuple[float, ...] | None): of the network's input, for images in [0, 1];
            None: it takes images in [−1, 1] as they are.
    """

    def __init__(self, layers: nn.Sequential, taken: tuple[int, ...],
                 mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None):
        super().__init__()
        self.layers = layers[: taken[-1] + 1].requires_grad_(False).eval()
        self.taken, self.scaled = frozenset(taken), mean is not None
        self.register_buffer("mean", torch.tensor(mean or (0.0,)).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std or (1.0,)).view(1, -1, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (B, channels, H, W) in [−1, 1] → per layer (B, C, h, w), channels of length 1."""
        if self.scaled:
            images = ((images + 1) / 2 - self.mean) / self.std  # grey becomes RGB
        found = []
        for i, layer in enumerate(self.layers):
            images = layer(images)
            if i in self.taken:
                found.append(F.normalize(images.float(), dim=1, eps=1e-5))
        return found

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """The distance, () in [0, 4]; gradients reach `others` alone."""
        with torch.no_grad():
            wanted = self.features(images)
        pairs = zip(wanted, self.features(others), strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean()


def load_perceptual(cfg: Config) -> Perceptual | None:
    """The perceptual term of the settings; None where it is off.

    Raises:
        DD2Error: its network has not been trained, or its file is missing or none of VGG16's.
    """
    path = perceptual_file(cfg)
    if path is None:
        return None
    own = cfg.tokenizer.perceptual_net == CLASSIFIER
    return _of_classifier(cfg, path) if own else _of_vgg(cfg, path)


def _of_classifier(cfg: Config, path: Path) -> Perceptual:
    if not path.exists():
        if not cfg.dry_run:
            raise DD2Error(f"tokenizer.perceptual={cfg.tokenizer.perceptual:g} looks with the "
                           f"classifier, and {path} is missing: run train.classifier first.")
        print(f"dry run: {path.name} is not there yet, random weights stand in for it")
        net = Classifier(**sizes_of(cfg, 1))
    else:
        found = read_tensors(path, sealed=True)
        net = Classifier(**sizes_of(cfg, len(found.get("classes.bias", [0]))))
        load_strict(net, found, str(path))
    # After each activation; the residual body has one of its own only at its end.
    taken = tuple(i for i, layer in enumerate(net.body) if isinstance(layer, nn.ReLU | Residual))
    return Perceptual(net.body, taken)


def _of_vgg(cfg: Config, path: Path) -> Perceptual:
    from torchvision.models.vgg import cfgs, make_layers

    if cfg.image_size < VGG_SMALLEST:
        raise DD2Error(f"image_size={cfg.image_size} is too small for VGG16, which takes "
                       f"{VGG_SMALLEST} pixels a side or more: use "
                       f"tokenizer.perceptual_net={CLASSIFIER}.")
    features = make_layers(cfgs["D"])  # VGG16 without its 120 million numbers for the classes
    found = {k.removeprefix("features."): a for k, a in _vgg_weights(path).items()
             if k.startswith("features.")}
    load_strict(features, found, str(path))
    # In place they would overwrite what has been taken.
    layers = nn.Sequential(*(nn.ReLU() if isinstance(f, nn.ReLU) else f for f in features))
    return Perceptual(layers, VGG_LAYERS, VGG_MEAN, VGG_STD)


def _vgg_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if not path.exists():
        raise DD2Error(f"tokenizer.perceptual_net={path} is missing: name the file of "
                       f"torchvision's VGG16 weights, or {CLASSIFIER}.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(a, Tensor) for a in found.values()):
        raise DD2Error(f"tokenizer.perceptual_net={path} holds no weights of VGG16: name "
                       f"torchvision's file of them, or {CLASSIFIER}.")
    return found
