"""Samples by the ten thousand: made batch by batch, by one or more processes, kept on disk.

50,000 images of 256×256×3 bytes are 9.8 GB, so they go to one .npy file as they are made.
Batch i is made by process i mod world, whole, from labels and a seed that i alone decides: the
images do not depend on how many processes there are.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from torch import Tensor
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.pipeline import Pipeline
from dd2core.store.atomic import atomic
from dd2core.tools.images import to_float
from train.data import labels
from train.data.batches import evenly, mixed, spaced
from train.data.source import find_pictures
from train.engine import distributed
from train.measure.sample import Batch, add_cost, batch_seed, reconstruct, sample_batch
from train.settings.schema import Config

FEWEST = 10  # images that can be measured: the Inception Score takes ten parts of them
FEW = 2000  # samples whose tokens are kept, for the teacher's NLL and the entropy


@dataclass(frozen=True)
class Stream:
    """Samples on disk.

    Attributes:
        path: .npy file of uint8 (n, size, size, 3).
        tokens: of the first `FEW`, (≤ FEW, L).
        labels: of all, (n,).
        cost: passes, and seconds and decode_seconds summed over all batches and processes.
    """

    path: Path
    tokens: Tensor
    labels: Tensor
    cost: dict

    def read(self, batch: int) -> Iterator[Tensor]:
        """Batches of images, uint8 (≤ batch, 3, size, size), in order."""
        return batches(np.load(self.path, mmap_mode="r"), batch)


def batches(images: np.ndarray, batch: int) -> Iterator[Tensor]:
    """uint8 (n, H, W, 3) in memory or on disk → uint8 (≤ batch, 3, H, W), in order."""
    for i in range(0, len(images), batch):
        yield torch.from_numpy(np.array(images[i : i + batch])).permute(0, 3, 1, 2)


def balanced(n: int, classes: int) -> Tensor:
    """Labels (n,) that go round the classes; the last n % classes are spread over them."""
    whole = n - n % classes
    return torch.cat([torch.arange(whole) % classes, spaced(n - whole, classes)])


def stream(pipe: Pipeline, cfg: Config, path: Path, size: int) -> Stream:
    """Write `evaluate.n` samples into `path`.

    Args:
        pipe (Pipeline): of RGB images.
        cfg (Config): the sampler and its settings are in its section `evaluate`.
        path (Path): .npy file to write; removed again if sampling stops half way.
        size (int): pixels a side to keep; bicubic where the model's own differ, as LlamaGen
            measures its 384-pixel models.

    Returns:
        Stream: the same on every process.

    Raises:
        DD2Error: no space for the file, or what `sample_batch` raises.
    """
    labels, sampled = _plan(pipe, cfg)
    parts = labels.split(cfg.evaluate.batch)
    main, rank, world = distributed.is_main(), distributed.rank(), distributed.world()
    if main:
        _reserve(path, (len(labels), size, size, 3), 2 if cfg.evaluate.save_npz else 1)
    try:
        shared = _seen_by_all(path)  # the others wait until the file is there
        images = open_memmap(path, "r+") if main or shared else None
        tokens, cost, batch = {}, {}, cfg.evaluate.batch
        bar = tqdm(range(rank, len(parts) + rank, world), cfg.evaluate.sampler, mininterval=2.0,
                   disable=not main)
        for i in bar:  # all take the same number of rounds; in the last some have nothing to do
            made = {}
            if i < len(parts):
                x, tokens_i, cost_i = sampled(i, parts[i])
                made[i] = resized(x, size).permute(0, 2, 3, 1).numpy()
                add_cost(cost, cost_i)
                if i * batch < FEW:
                    tokens[i] = tokens_i
            for k, x in (made if shared else distributed.gather(made)).items():
                if images is not None:
                    images[k * batch : k * batch + len(x)] = x
        if images is not None:
            images.flush()
        tokens, costs = distributed.gather(tokens), distributed.gather({rank: cost})
    except BaseException:
        if main:
            path.unlink(missing_ok=True)
        raise
    total: dict = {}
    for each in costs.values():
        add_cost(total, each)
    few = torch.cat([tokens[i] for i in sorted(tokens)])[:FEW]
    return Stream(path, few, labels, total)


def _seen_by_all(path: Path) -> bool:
    """Whether all processes see the file that the first one has just made, as those of one machine
    do, or those of several with a common file system; a collective."""
    distributed.gather({})
    try:
        found = path.stat()
        own = (found.st_ino, found.st_size, found.st_mtime_ns)
    except OSError:
        own = None
    return len(set(distributed.gather({distributed.rank(): own}).values())) == 1


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 (B, 3, H, W) → uint8 (B, 3, size, size), bicubic; unchanged at that size."""
    if images.shape[-1] == size:
        return images
    x = F.interpolate(images.float(), size=(size, size), mode="bicubic")
    return x.round().clamp(0, 255).to(torch.uint8)


def to_npz(path: Path) -> Path:
    """Turn a .npy file into an .npz of one array, `arr_0`, piece by piece; returns its path.

    This is what the evaluation of guided-diffusion (ADM) reads.
    """
    target = path.with_suffix(".npz")
    with atomic(target) as f:
        np.savez(f, arr_0=np.load(path, mmap_mode="r"))
    path.unlink()
    return target


def _reserve(path: Path, shape: tuple[int, ...], copies: int) -> None:
    """Make the file; a map of a file that outgrows its disk would end in a bus error later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    need = copies * int(np.prod(shape, dtype=np.int64)) + 2**20
    free = shutil.disk_usage(path.parent).free
    if free < need:
        raise DD2Error(f"{path} needs {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: make "
                       "room, or give out=FOLDER on another disk.")
    open_memmap(path, "w+", np.uint8, shape).flush()


def _plan(pipe: Pipeline, cfg: Config) -> tuple[Tensor, Callable[[int, Tensor], Batch]]:
    """Labels (n,), and a function that samples batch i with its labels."""
    o = cfg.evaluate
    if o.sampler != "tokenizer":
        return (balanced(o.n, len(pipe.class_names)),
                lambda i, labels: sample_batch(pipe, cfg, labels, batch_seed(o.seed, i)))
    pictures = find_pictures(cfg)
    if pictures is None:
        raise DD2Error("sampler=tokenizer reconstructs pictures: give data=FOLDER of class "
                       "folders.")
    held = pictures.parts["test"]
    n = min(o.n, len(held))
    if n < FEWEST:
        raise DD2Error(f"data={cfg.data} has {n} held-out pictures: at least {FEWEST} are needed.")
    pick = held[evenly(pictures.labels[held], n)]
    pick = pick[mixed(pictures.labels[pick])]  # the tokens kept are those of the first

    @torch.no_grad()
    def reconstructed(i: int, labels: Tensor) -> Batch:
        part = dataclasses.replace(pictures, parts={"test": pick.split(o.batch)[i]})
        [(images, _)] = part.read("test", o.batch)
        tokens = pipe.teacher.tokenizer.encode(to_float(images).to(pipe.device))
        return reconstruct(pipe.teacher, tokens)

    return labels.numbers(cfg, pictures.class_names)[pictures.labels[pick]], reconstructed
