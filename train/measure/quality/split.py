"""What samples are compared with: the test images, or training images set apart to choose by.

Whoever tries settings and keeps the best by the test set has fitted them to it. `split=validation`
is for choosing: a fixed part of the training images stands in the place of the test set. Teacher
and extractors were trained on these too, so its numbers are a little kinder to what repeats them,
and are for choosing alone; what is reported is measured against the test images.
"""

import dataclasses

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from train.data.batches import spaced
from train.data.enough import FEWEST
from train.data.fashion import Data

MOST = 5000  # images set apart


def validation(labels: Tensor, held: int) -> Tensor:
    """Which training images are set apart: as many as are held out for the test, `MOST` at most,
    and half of all at most; evenly over the classes, the same whenever they are asked for.

    Args:
        labels (Tensor): of the training images, (N,).
        held (int): test images.

    Returns:
        Tensor: int64 indices, rising.

    Raises:
        DD2Error: too few are there.
    """
    n = min(MOST, held, len(labels) // 2)
    if n < FEWEST:
        raise DD2Error(f"split=validation sets {n} of {len(labels)} training images apart, and at "
                       f"least {FEWEST} are needed: give more pictures.")
    return labels.argsort(stable=True)[spaced(n, len(labels))].sort().values


def choose(data: Data, split: str) -> Data:
    """The data with those of `split` as held-out images; the training images are the others."""
    if split == "test":
        return data
    apart = torch.zeros(len(data.labels), dtype=torch.bool)
    apart[validation(data.labels, len(data.test_labels))] = True
    return dataclasses.replace(
        data, images=data.images[~apart], labels=data.labels[~apart],
        test_images=data.images[apart], test_labels=data.labels[apart])


def reference_name(data: Data, split: str) -> str:
    """What the reference is, for the results."""
    what = "test images" if split == "test" else "training images set apart"
    return f"{len(data.test_images)} {what}"
