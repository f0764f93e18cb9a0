"""A folder of class folders with pictures, read when they are asked for: so ImageNet fits too."""

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dd2core.errors import DD2Error, some
from train.data.enough import hold_out
from train.data.folders import Classes, find_classes, kinds
from train.data.listing import list_folder
from train.data.notes import say_once, shown
from train.data.pixels import read_rgb
from train.data.transforms.squares import read_square


@dataclass(frozen=True)
class Pictures:
    """A folder of class folders, whose pictures are read when they are asked for.

    Attributes:
        paths, labels: of all pictures.
        parts: which of them are `train` and which `test`.
        class_names: one name per label.
        transform: PIL picture → uint8 (channels, H, W).
    """

    paths: list[str]
    labels: Tensor
    parts: dict[str, Tensor]
    class_names: list[str]
    transform: Callable

    def read(self, part: str, batch: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of images, uint8 (n, channels, H, W), and labels (n,), in order.

        Raises:
            DD2Error: a file is no whole picture; see `train.data.pixels`.
        """
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for pick in self.parts[part].split(batch):
                images = pool.map(self._picture, [self.paths[i] for i in pick.tolist()])
                yield torch.stack(list(images)), self.labels[pick]

    def _picture(self, path: str) -> Tensor:
        return self.transform(read_rgb(path))


def open_pictures(folder: Path, image_size: int, channels: int, how: str = "square") -> Pictures:
    """The pictures of a folder, resized and cropped to squares; none is read yet.

    Args:
        folder (Path): class folders, or two parts of them (`train.data.folders` tells which);
            without a second part every tenth picture of each class is held out.
        image_size (int): pixels a side.
        channels (int): 1 grey, 3 RGB.
        how (str): see `train.data.transforms.squares`.

    Raises:
        DD2Error: no class folders, or too few pictures.
    """
    found, held = find_classes(folder)
    if held is not None and set(found.pictures) != set(held.pictures):
        raise DD2Error(f"data={shown(folder)}: train and val must have the same class folders, "
                       f"{_difference(found, held)}.")
    names = list(found.pictures)
    paths = [path for part in (found, held) if part for name in names
             for path in part.pictures[name]]
    labels = torch.tensor([y for part in (found, held) if part
                           for y, name in enumerate(names) for _ in part.pictures[name]])
    test = hold_out(folder, names, labels) if held is None else (
        torch.arange(len(paths)) >= sum(map(len, found.pictures.values())))
    parts = {"train": (~test).nonzero()[:, 0], "test": test.nonzero()[:, 0]}
    _tell(folder, found, held, parts)
    return Pictures(paths, labels, parts, names, _transform(image_size, channels, how))


def open_folder(folder: Path, image_size: int) -> Pictures:
    """Every picture below a folder, whatever its sub-folders are, as one part `all` in the order of
    the paths; RGB, resized and cropped as by `open_pictures`, all labels 0."""
    paths = sorted(list_folder(folder).pictures)
    n = len(paths)
    return Pictures(paths, torch.zeros(n, dtype=torch.int64), {"all": torch.arange(n)}, ["all"],
                    _transform(image_size, 3))


def _difference(found: Classes, held: Classes) -> str:
    only = {part.folder: sorted(set(part.pictures) - set(other.pictures))
            for part, other in ((found, held), (held, found))}
    return " and ".join(f"{some(names)} is only in {shown(where.name)}"
                        for where, names in only.items() if names)


def _tell(folder: Path, found: Classes, held: Classes | None, parts: dict[str, Tensor]) -> None:
    """Print the classes, how many pictures each has, and what is not read."""
    n = {name: len(paths) + (len(held.pictures[name]) if held else 0)
         for name, paths in found.pictures.items()}
    word = "class" if len(n) == 1 else "classes"
    where = f"{shown(found.folder)} and {shown(held.folder)}" if held else shown(found.folder)
    say_once(f"{len(n)} {word} in {where}: {some([f'{name} {k}' for name, k in n.items()])} "
             f"pictures; {len(parts['train'])} to train on, {len(parts['test'])} held out")
    others = found.others + held.others if held else found.others
    if others:
        say_once(f"not read in {shown(folder)}: {kinds(others)}")
    if left := (*found.left_out, *(held.left_out if held else ())):
        say_once(f"left out in {shown(folder)}: {some([shown(name) for name in left])}")


def _transform(size: int, channels: int, how: str = "square") -> Callable[[Image.Image], Tensor]:
    return functools.partial(read_square, how=how, size=size, channels=channels)
