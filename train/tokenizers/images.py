"""The images of the tokenizer stage: in memory or read ahead by processes; flipped and cropped.

With `tokenizer.crop` training pictures are read as squares larger by 1/(1 − crop), of which each
step takes another square part; what is drawn is drawn for the whole batch (`Part`).
"""

import dataclasses
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dd2core.errors import DD2Error
from dd2core.noise import Part
from dd2core.tools.images import to_float
from train.data.batches import batch_indices
from train.data.pixels import read_rgb
from train.data.shards.encode import encode_batch
from train.data.source import find_pictures, load_data
from train.engine import distributed
from train.settings.schema import Config

AHEAD = 4  # batches that each reading process has ready


def larger(cfg: Config) -> Config:
    """The settings with the side, in pixels, in which training pictures are read."""
    side = round(cfg.image_size / (1 - cfg.tokenizer.crop))
    return dataclasses.replace(cfg, image_size=side)


class Files(Dataset):
    """The training pictures of a folder by number, uint8 (channels, H, W)."""

    def __init__(self, cfg: Config):
        found = find_pictures(cfg)
        if found is None:
            raise DD2Error("tokenizer.workers read pictures in class folders: leave it out.")
        self.pictures, self.pick = found, found.parts["train"]

    def __len__(self) -> int:
        return len(self.pick)

    def __getitem__(self, i: int) -> Tensor | str:
        """The picture, or why it cannot be read."""
        path = self.pictures.paths[int(self.pick[i])]
        try:
            return cast(Tensor, self.pictures.transform(read_rgb(path)))
        except DD2Error as error:
            return str(error)


def together(found: list[Tensor | str]) -> Tensor | str:
    """A batch (n, channels, H, W); or the first reason why there is none."""
    images = [a for a in found if not isinstance(a, str)]
    if len(images) == len(found):
        return torch.stack(images)
    return next(a for a in found if isinstance(a, str))


class Images:
    """Batches to train on and to measure with; each process has its part of a batch.

    Args:
        cfg (Config): the experiment.

    Raises:
        DD2Error: crops of images that cannot be read larger; or see `load_data`.
    """

    def __init__(self, cfg: Config):
        self.cfg, self.opts = cfg, cfg.tokenizer
        self.part = distributed.own_part()
        self.pictures = find_pictures(cfg)
        if self.opts.crop > 0 and self.pictures is None:
            raise DD2Error("tokenizer.crop needs pictures in class folders, which can be read "
                           "larger: leave it out.")
        self.files = Files(larger(cfg)) if self.opts.workers else None
        self.data = None if self.files else load_data(larger(cfg) if self.opts.crop > 0 else cfg)
        self._ahead: Iterator[Tensor | str] | None = None
        self._next = -1

    def test(self) -> Iterator[Tensor]:
        """The held-out images, whole, uint8 (n, channels, H, W) at a time."""
        if self.data is not None and self.opts.crop == 0:
            yield from self.data.test_images.split(encode_batch(self.cfg.image_size))
        elif self.pictures is not None:
            for images, _ in self.pictures.read("test", encode_batch(self.cfg.image_size)):
                yield images

    def indices(self, i: int) -> Tensor:
        """Which images step i has in this process."""
        n = len(self.data.images) if self.data is not None else len(self.files)
        return self.part.take(batch_indices(n, self.opts.batch, i, self.cfg.seed))

    def batch(self, i: int) -> Tensor:
        """Images of step i, float (B / processes, channels, H, W) in [−1, 1]."""
        found = self._read(i) if self.data is None else self.data.images[self.indices(i)]
        return augmented(to_float(found), self.opts.batch, self.part, self.opts.flip,
                         self.opts.crop, self.cfg.image_size)

    def _read(self, i: int) -> Tensor:
        if self._ahead is None or self._next != i:
            # A generator of its own: torch's must stay that of the step.
            self._ahead = iter(DataLoader(
                self.files, batch_sampler=self._keys(i), num_workers=self.opts.workers,
                prefetch_factor=AHEAD, collate_fn=together,
                generator=torch.Generator().manual_seed(0)))
        self._next = i + 1
        found = next(self._ahead)
        if isinstance(found, str):
            raise DD2Error(found)
        return found

    def _keys(self, first: int) -> Iterator[list[int]]:
        for i in range(first, max(self.opts.steps, first + 1)):
            yield self.indices(i).tolist()


def augmented(images: Tensor, batch: int, part: Part, flip: bool, crop: float, size: int) -> Tensor:
    """Images (n, channels, S, S), some mirrored, of each a square part; (n, channels, size, size).

    Args:
        images (Tensor): float, the rows `part` of a batch.
        batch (int): rows of the whole batch, for which numbers are drawn.
        part (Part): which of them these are.
        flip (bool): mirror every other one, by chance.
        crop (float): the part's side is from 1 − crop to 1 of the image's.
        size (int): pixels a side of the result; S without crops.
    """
    if flip:
        mirror = part.take(torch.rand(batch)) < 0.5
        images = torch.where(mirror[:, None, None, None], images.flip(-1), images)
    if crop == 0:
        return images
    u = part.take(torch.rand(batch, 3))
    side = 1 - crop * u[:, 0]
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = (2 * u[:, 1:] - 1) * (1 - side)[:, None]  # centres that keep it inside
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
