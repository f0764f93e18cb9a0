"""The training images of a model in a file of a few MB: features to search in, and thumbnails.

A model folder may hold `neighbours.safetensors`, which `python -m train.neighbours` writes.
Features of the classifier are projected on their principal directions and rounded to whole numbers
from −127 to 127, thumbnails to 8 shades; where that is still too large, every second image is left
out until it is not. How near real held-out images come is measured when the file is made.
"""

import dataclasses
import lzma
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.novelty.classifier import Classifier, find_classifier
from dd2core.store.files import check_manifest, read_tensors
from dd2core.store.names import NEIGHBOURS
from dd2core.tools.images import to_float
from dd2core.tools.neighbours import Nearest, nearest

DIRECTIONS = 32  # principal directions that are kept
SIDE = 14  # pixels of a thumbnail
SHADES = 8
LARGEST = 127  # a rounded coordinate
NEAR = 0.05  # quantile of the held-out distances: nearer counts as near
AT_ONCE = 500  # images in one pass of the classifier
NAMES = {"codes", "mean", "basis", "step", "thumbnails", "shape", "held", "count"}


@dataclasses.dataclass(frozen=True)
class Found:
    """The nearest training images of some images, nearest first.

    Attributes:
        distance: (B, k).
        thumbnails: uint8 (B, k, SIDE, SIDE, channels).
    """

    distance: Tensor
    thumbnails: np.ndarray


@dataclasses.dataclass(frozen=True)
class Index:
    """See the module.

    Attributes:
        codes: int8 (N, D), rounded coordinates in units of `step`.
        mean, basis: (features,), (features, D).
        thumbnails: uint8 (N, SIDE, SIDE, channels).
        count: training images in all; N of them, evenly spaced, are here.
        median, near: of the distances of held-out images to their nearest training image: the
            median, and the quantile `NEAR`.
        agreement: of the held-out images, the share whose nearest training image by all features is
            among the three nearest here.
    """

    codes: Tensor
    mean: Tensor
    basis: Tensor
    step: float
    thumbnails: np.ndarray
    count: int
    median: float
    near: float
    agreement: float
    classifier: Classifier

    def find(self, images: np.ndarray, k: int = 3) -> Found:
        """The k nearest training images of uint8 images (B, H, W, channels).

        Raises:
            DD2Error: images of another number of channels, or fewer than k to find.
        """
        channels = self.thumbnails.shape[-1]
        if images.ndim != 4 or images.shape[-1] != channels:
            raise DD2Error(f"Images of shape {images.shape} cannot be looked for among those of "
                           f"{channels} channels.")
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        found = self._nearest(features(self.classifier, x), k)
        return Found(found.distance, self.thumbnails[found.index.numpy()])

    def _nearest(self, x: Tensor, k: int) -> Nearest:
        keys = self.codes.float() * self.step
        return nearest((x - self.mean) @ self.basis, keys, k)


@torch.inference_mode()
def features(model: Classifier, images: Tensor) -> Tensor:
    """uint8 images (N, channels, H, W) → features (N, features)."""
    layout = torch.channels_last
    parts = images.split(AT_ONCE)
    return torch.cat([
        model.features(to_float(x).contiguous(memory_format=layout)).float() for x in parts])


def make(model: Classifier, images: Tensor, held: Tensor, most: int) -> dict[str, Tensor]:
    """The tensors of the file.

    Args:
        model (Classifier): whose features count.
        images (Tensor): of training, uint8 (N, channels, H, W).
        held (Tensor): held-out images, likewise.
        most (int): bytes of codes and thumbnails together, at most.

    Raises:
        DD2Error: fewer than 3 images of either kind, or features without any spread.
    """
    if min(len(images), len(held)) < 3:
        raise DD2Error("An index needs at least 3 training images and 3 held-out ones: give more.")
    keys, queries = features(model, images), features(model, held)
    mean = keys.mean(0)
    spread, basis = torch.linalg.eigh((keys - mean).T.double() @ (keys - mean).double())
    if not spread[-1] > 1e-9 * keys.square().sum():  # rounding alone makes some
        raise DD2Error("The classifier's features of all images are the same: train it first.")
    basis = basis.flip(1)[:, :DIRECTIONS].float()
    flat = (keys - mean) @ basis
    step = flat.abs().max() / LARGEST
    codes = (flat / step).round().to(torch.int8)
    shades = _shades(images)
    every = 1
    while (tensors := _pack(codes[::every], shades[::every]))[1] > most and len(codes) > 3 * every:
        every *= 2
    kept = tensors[0] | {"mean": mean, "basis": basis, "step": step.reshape(1)}
    own = nearest((queries - mean) @ basis, codes[::every].float() * step, 3)
    best = nearest(queries, keys[::every], 1).index
    distance = own.distance[:, 0]
    agreement = (own.index == best).any(1).float().mean()
    held_out = [distance.median(), distance.quantile(NEAR), agreement]
    return kept | {"held": torch.stack(held_out), "count": torch.tensor([len(images)])}


def _pack(codes: Tensor, shades: np.ndarray) -> tuple[dict[str, Tensor], int]:
    """Codes and compressed thumbnails, and their bytes."""
    packed = torch.from_numpy(np.frombuffer(lzma.compress(shades.tobytes()), np.uint8).copy())
    return ({"codes": codes, "thumbnails": packed, "shape": torch.tensor(shades.shape)},
            codes.numel() + packed.numel())


def _shades(images: Tensor) -> np.ndarray:
    """uint8 (N, channels, H, W) → uint8 shades (N, SIDE, SIDE, channels) from 0."""
    small = torch.cat([F.interpolate(x.float(), size=(SIDE, SIDE), mode="area")
                       for x in images.split(AT_ONCE)])
    return (small / 255 * (SHADES - 1)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def load_index(folder: Path | None) -> Index | None:
    """The index of a model folder; None if it has none, or no classifier.

    Raises:
        DD2Error: it is damaged.
    """
    if folder is None or not (folder / NEIGHBOURS).is_file():
        return None
    check_manifest(folder, [NEIGHBOURS])
    known = find_classifier(folder)
    if known is None:
        return None
    t, where = read_tensors(folder / NEIGHBOURS, sealed=True), folder / NEIGHBOURS
    try:
        if t.keys() != NAMES:
            raise ValueError
        shape = tuple(t["shape"].tolist())
        thumbnails = _unpack(t["thumbnails"].numpy().tobytes(), shape)
        median, near, agreement = t["held"].tolist()
        if t["codes"].shape != (shape[0], t["basis"].shape[1]):
            raise ValueError
    except (ValueError, lzma.LZMAError):
        raise DD2Error(f"{where} is no index of training images: make it anew with `python -m "
                       "train.neighbours`.") from None
    return Index(t["codes"], t["mean"], t["basis"], t["step"].item(), thumbnails,
                 int(t["count"]), median, near, agreement, known[0])


def _unpack(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Compressed shades → uint8 pixels of `shape`."""
    size, packed = int(np.prod(shape)), lzma.LZMADecompressor(memlimit=2**27)
    shades = packed.decompress(data, size + 1)  # no more, whatever a foreign file says
    if len(shades) != size or not packed.eof:
        raise ValueError
    pixels = (np.arange(256) * 255 / (SHADES - 1)).round().clip(0, 255).astype(np.uint8)
    return pixels[np.frombuffer(shades, np.uint8)].reshape(shape)
