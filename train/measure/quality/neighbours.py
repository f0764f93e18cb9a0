"""Do samples repeat training images? Their nearest ones, beside those of real held-out images.

A distance alone says nothing, so each is held against how near real images come that no network
was trained on: were samples as real as those, a share of `quantile` of them would be nearer than
that quantile of the held-out distances. Many more are a sign of copying, none of a sampler that
paints what is not in the data.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from dd2core.results.schema import Neighbours
from dd2core.tools.images import grid_image
from dd2core.tools.neighbours import Nearest, nearest
from train.data.batches import evenly, spaced
from train.data.fashion import Data
from train.measure.classifier import Classifier
from train.measure.quality.extractors import features

SHOWN = 3  # training images beside each sample
ROWS = 10  # of the sheet, two samples each: the nearest on the left, samples at random on the right


@dataclasses.dataclass(frozen=True)
class Search:
    """What was found: the numbers, and where the nearest training images are."""

    numbers: Neighbours
    found: Nearest


def search(images: Tensor, data: Data, model: Classifier, quantile: float) -> Search:
    """The nearest training images of samples, uint8 (N, channels, H, W).

    Args:
        images (Tensor): the samples.
        data (Data): its training images are searched, its held-out ones are the measure.
        model (Classifier): in whose features.
        quantile (float): of the held-out distances, in (0, 1), see the module.
    """
    keys = features(model, data.images)
    held = data.test_images[evenly(data.test_labels, min(len(images), len(data.test_images)))]
    real = nearest(features(model, held), keys).distance[:, 0]
    found = nearest(features(model, images), keys, min(SHOWN, len(keys)))
    own, threshold = found.distance[:, 0], torch.quantile(real, quantile)
    return Search(Neighbours(
        n=len(images), held=len(held), train=len(keys), quantile=quantile,
        threshold=threshold.item(), share=(own < threshold).float().mean().item(),
        median=own.median().item(), held_median=real.median().item()), found)


def sheet(images: Tensor, data: Data, found: Nearest) -> np.ndarray:
    """Samples, each beside its nearest training images: on the left those that come nearest, on the
    right any; uint8 (H, W, 3)."""
    n = min(ROWS, len(images))
    pick = torch.stack([found.distance[:, 0].argsort()[:n], spaced(n, len(images))], 1).flatten()
    cells = [torch.cat([images[i : i + 1], data.images[found.index[i]]]) for i in pick.tolist()]
    shown = torch.cat(cells).permute(0, 2, 3, 1).numpy()
    return grid_image(shown, columns=2 * (1 + found.index.shape[1]), zoom=2)
