"""A folder of class folders with pictures, read when they are asked for: so ImageNet fits too."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dd2core.errors import DD2Error


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
            DD2Error: a file is no picture.
        """
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for pick in self.parts[part].split(batch):
                images = pool.map(self._picture, [self.paths[i] for i in pick.tolist()])
                yield torch.stack(list(images)), self.labels[pick]

    def _picture(self, path: str) -> Tensor:
        try:
            with Image.open(path) as picture:
                return self.transform(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error).partition("\n")[0]
            raise DD2Error(f"{path} cannot be read as a picture ({reason}): remove it.") from None


def open_pictures(folder: Path, image_size: int, channels: int) -> Pictures:
    """The pictures of a folder, resized and cropped to squares; none is read yet.

    Sub-folders train and val, each of class folders, are the two parts; else every tenth picture
    is held out.

    Raises:
        DD2Error: the folder holds no class folders, or too few pictures.
    """
    split = [folder / "train", folder / "val"]
    if all(_has_folders(part) for part in split):
        found, held = (_class_folders(part) for part in split)
        if found.classes != held.classes:
            raise DD2Error(f"data={folder}: train and val must have the same class folders.")
    else:
        found, held = _class_folders(folder), None
    samples = found.samples + (held.samples if held else [])
    test = torch.arange(len(samples))
    test = test >= len(found.samples) if held else test % 10 == 9
    if not test.any():
        raise DD2Error(f"data={folder} has {len(samples)} pictures: at least 10 are needed.")
    parts = {"train": (~test).nonzero()[:, 0], "test": test.nonzero()[:, 0]}
    return Pictures([path for path, _ in samples], torch.tensor([y for _, y in samples]), parts,
                    list(found.classes), _transform(image_size, channels))


def open_folder(folder: Path, image_size: int) -> Pictures:
    """Every picture below a folder, whatever its sub-folders are, as one part `all` in the order of
    the paths; RGB, resized and cropped as by `open_pictures`, all labels 0."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    paths = sorted(os.path.join(where, name)
                   for where, _, names in os.walk(folder, followlinks=True)
                   for name in names if name.lower().endswith(IMG_EXTENSIONS))
    n = len(paths)
    return Pictures(paths, torch.zeros(n, dtype=torch.int64), {"all": torch.arange(n)}, ["all"],
                    _transform(image_size, 3))


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(p.is_dir() for p in folder.iterdir())


def _class_folders(folder: Path):
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(str(folder))
    except FileNotFoundError:
        raise DD2Error(
            f"data={folder} holds no class folders with pictures: put each class's pictures into a "
            "sub-folder of its own."
        ) from None


def _transform(size: int, channels: int) -> Callable:
    from torchvision import transforms as T

    steps = [T.Resize(size, antialias=True), T.CenterCrop(size), T.PILToTensor()]
    return T.Compose([T.Grayscale(), *steps] if channels == 1 else steps)
