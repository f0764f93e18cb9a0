"""Is a sample new? Its nearest training images beside how near real images come, as HTML."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from app.html import present
from dd2core.novelty.index import NEAR, Index, load_index

SHOWN = 3
MISSING = (
    '<p class="dd2-note">This model came without an index of its training pictures. <code>python '
    "-m train.neighbours preset=NAME</code> makes one from the data set and the model’s "
    "classifier.</p>"
)
_LOADING = threading.Lock()
_known: dict[Path, Index | None] = {}


def index_of(pipe: Any) -> Index | None:
    """The index of a model, read once; None if it has none."""
    folder = pipe.model.folder
    if folder is None:
        return None
    with _LOADING:
        if folder not in _known:
            _known[folder] = load_index(folder)
        return _known[folder]


def nearest_html(index: Index | None, image: np.ndarray, name: str) -> str:
    """The nearest training images of one, and what to make of their distance.

    Args:
        index: of the model.
        image: uint8 (H, W, C).
        name: of its class.
    """
    if index is None:
        return MISSING
    found = index.find(image[None], min(SHOWN, len(index.codes)))
    distances = found.distance[0].tolist()
    cells = [_cell(present.tile(image, f"{name}, painted in one step"), "this sample")]
    for place, (thumbnail, distance) in enumerate(
        zip(found.thumbnails[0], distances, strict=True), 1
    ):
        tile = present.tile(thumbnail, f"Training picture, number {place} in nearness")
        cells.append(_cell(tile, f"at {distance:.2f}"))
    return (f'<div class="dd2-near">{"".join(cells)}</div>'
            f'<p class="dd2-note" role="status">{_says(index, distances[0])}</p>')


def _cell(tile: str, caption: str) -> str:
    return f'<figure class="dd2-cell"><div class="dd2-shot">{tile}</div><figcaption>{caption}' \
           "</figcaption></figure>"


def _says(index: Index, distance: float) -> str:
    if distance < index.near:
        verdict = (f"At <b>{distance:.2f}</b> this sample is nearer than all but {NEAR:.0%} of "
                   "real held-out pictures: compare by eye whether it repeats one.")
    elif distance < index.median:
        verdict = (f"At <b>{distance:.2f}</b> this sample lies among the nearer half of real "
                   "held-out pictures: alike, as real ones are, and no sign of a copy.")
    else:
        verdict = (f"At <b>{distance:.2f}</b> this sample is farther from the training pictures "
                   "than half of the real held-out pictures are.")
    whole = f"all {index.count:,}" if len(index.codes) == index.count else (
        f"{len(index.codes):,} of the {index.count:,}, evenly spaced,")
    return (
        f"{verdict} Their median distance is {index.median:.2f}. Searched: {whole} training "
        f"pictures, in {index.codes.shape[1]} principal directions of a classifier’s features; the "
        f"picture that is nearest by all features is among three such for {index.agreement:.0%} of "
        f"held-out pictures. Shown at {index.thumbnails.shape[1]} pixels a side, in eight shades"
        f"{'' if index.thumbnails.shape[-1] == 1 else ' of each colour'}."
    )
