"""How many pictures there must be: said before training, not after it when they are measured."""

from pathlib import Path

import torch
from torch import Tensor

from dd2core.errors import DD2Error, some
from train.data.notes import shown

FEWEST = 4  # held-out images: precision and recall look at each one's third nearest neighbour
TENTH = 10  # of the pictures of a class are held out


def hold_out(folder: Path, names: list[str], labels: Tensor) -> Tensor:
    """Which pictures are held out, bool (N,): of each class every tenth, at least one.

    Args:
        folder (Path): for the errors.
        names (list[str]): of the classes.
        labels (Tensor): int64 (N,), sorted.

    Raises:
        DD2Error: a class has one picture, or too few are left to measure with.
    """
    count = labels.bincount(minlength=len(names))
    rank, own = torch.arange(len(labels)) - (count.cumsum(0) - count)[labels], count[labels]
    held = torch.where(own < TENTH, rank == own - 1, rank % TENTH == TENTH - 1)
    where = f"data={shown(folder)}"
    if single := [name for name, n in zip(names, count.tolist(), strict=True) if n < 2]:
        raise DD2Error(f"{where}: class {some(single)} has 1 picture, and at least 2 are needed, "
                       "one to train on and one to hold out.")
    if (n := int(held.sum())) < FEWEST:
        each = TENTH * -(-FEWEST // len(names))
        raise DD2Error(f"{where} has {len(labels)} pictures, of which every tenth is held out, {n} "
                       f"in all, and at least {FEWEST} are needed: give {each} pictures of each "
                       "class, or a folder val beside train.")
    return held


def check_enough(where: str, train: int, test: int) -> None:
    """Raise DD2Error if there are no training images, or too few held-out ones to measure with."""
    if train < 1 or test < FEWEST:
        raise DD2Error(f"{where} has {train} images to train on and {test} held out: at least 1 "
                       f"and {FEWEST} are needed.")
