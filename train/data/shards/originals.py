"""The images of a data set one by one, wherever they are: what the tokenizer is to read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dd2core.errors import DD2Error
from train.data import labels
from train.data.fashion import Data
from train.data.pictures import Pictures
from train.data.pixels import read_rgb
from train.data.source import find_pictures
from train.data.transforms.squares import count, mirrored, variants
from train.engine.base import class_names
from train.settings.schema import Config

AHEAD = 4  # batches that each process has ready
Key = tuple[str, int]  # part and number of an image in it


@dataclass(frozen=True)
class Read:
    """A batch of images.

    Attributes:
        images: uint8 (n, V, channels, H, W), the n that could be read.
        fine: which of the batch these are, bool (b,).
        reason: why the first of the others could not be; None without one.
    """

    images: Tensor
    fine: Tensor
    reason: str | None


class Originals(Dataset):
    """Images by part and number; V squares of each training image (`tokens.flips`, `.crops`).

    Attributes:
        labels: of each part, int64 (N,), in the base's numbers if there is a base.
        class_names: one per label.
    """

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.pictures: Pictures | None = find_pictures(cfg)
        self.data: Data | None = None
        if self.pictures is None:
            if cfg.tokens.crops != 1:
                raise DD2Error("tokens.crops=10 is for pictures in class folders: leave it out.")
            self.data = data = labels.load_data(cfg)
            self.labels = {"train": data.labels, "test": data.test_labels}
            self.class_names = data.class_names
            return
        found, number = self.pictures, labels.numbers(cfg, self.pictures.class_names)
        self.labels = {part: number[found.labels[pick]] for part, pick in found.parts.items()}
        self.class_names = class_names(cfg) if cfg.base else found.class_names

    def name(self, key: Key) -> str:
        """The file of a picture, or what stands for it."""
        part, i = key
        if self.pictures is None:
            return f"{part} image {i}"
        return self.pictures.paths[int(self.pictures.parts[part][i])]

    def variants(self, part: str) -> int:
        """V, the squares of each image of a part."""
        o = self.cfg.tokens
        return count(o.flips, o.crops) if part == "train" else 1

    def __getitem__(self, key: Key) -> Tensor | str:
        """uint8 (V, channels, H, W); or why it cannot be read."""
        (part, i), o, c = key, self.cfg.tokens, self.cfg
        train = part == "train"
        if self.data is not None:
            images = self.data.images if train else self.data.test_images
            return mirrored(images[i], o.flips and train)
        try:
            return variants(read_rgb(self.name(key)), o.transform, c.image_size, c.channels,
                            o.flips and train, o.crops if train else 1)
        except DD2Error as error:
            return str(error)

    def read(self, batches: Iterable[list[Key]]) -> Iterator[Read]:
        """The batches in their order, read ahead by `tokens.workers` processes."""
        workers = self.cfg.tokens.workers if self.pictures is not None else 0
        # A generator of its own: the loader must not move torch's, on which first weights depend.
        return iter(DataLoader(self, batch_sampler=batches, collate_fn=self._batch,
                               num_workers=workers, prefetch_factor=AHEAD if workers else None,
                               generator=torch.Generator().manual_seed(0)))

    def _batch(self, found: list[Tensor | str]) -> Read:
        good = [a for a in found if not isinstance(a, str)]
        shape = (0, 1, self.cfg.channels, self.cfg.image_size, self.cfg.image_size)
        return Read(torch.stack(good) if good else torch.empty(shape, dtype=torch.uint8),
                    torch.tensor([not isinstance(a, str) for a in found]),
                    next((a for a in found if isinstance(a, str)), None))
