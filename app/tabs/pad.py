"""Explore's map: classes across, the way from one seed to the other down, a ring to be dragged.

Classes stand side by side and are not mixed. Between the embeddings of two classes the one-step
model switches rather than mixes: with fashion-llamagen (all 45 pairs, 12 latents each) the
classifier gives the first class 0.81 and the second 0.02 at a quarter of the way, 0.06 and 0.79 at
five eighths; halfway 0.37 falls to neither (0.95 for the worst pair, 0.09 to 0.15 at the ends), and
the pictures are farther from the training pictures than at either end (1.45 against 0.96 and 0.96).
With fashion-var 0.46 falls to neither halfway (0.97, worst pair), at 1.63 against 0.96 and 1.01.
`python -m tests.harness.mix_classes NAME` measures it.
"""

import html
import json
from typing import Any

import numpy as np
from PIL import Image

from app.api import plain_errors
from app.html import present
from dd2core.tools.images import as_pillow, grid_image

ROWS = 5  # places between the two seeds
GAP = 1  # pixels between pictures
CELL = 64  # pixels of a picture, at most


def painted(samplers: Any, labels: list[int], seeds: tuple[int, int]) -> np.ndarray:
    """The map's pictures, uint8 (rows·H, columns·W, 3) with gaps: a column for each label."""
    way = [i / (ROWS - 1) for i in range(ROWS)]
    if samplers.pipe.device.type == "cpu":
        # The batch that the slider paints, again and again: the machine is warm for it.
        rows = [samplers.morph([labels[0], labels[0], *labels], *seeds,
                               [0.0, 1.0, *[place] * len(labels)]).images[2:] for place in way]
        images = np.concatenate(rows)
    else:
        places = [place for place in way for _ in labels]
        images = samplers.morph(labels * ROWS, *seeds, places).images
    if images.shape[1] > CELL:
        small = [as_pillow(image).resize((CELL, CELL), Image.Resampling.BOX) for image in images]
        images = np.stack([np.asarray(image).reshape(CELL, CELL, -1) for image in small])
    return grid_image(images, len(labels), GAP)


def no_pad(labels: list[int]) -> str:
    """The map's place before it is painted; nothing where there will be none."""
    if len(labels) < 2:
        return ""
    shape = f"aspect-ratio:{len(labels)}/{ROWS}"
    return (f'<figure class="dd2-map"><div class="dd2-tile" style="{shape}"></div>'
            "<figcaption>&nbsp;</figcaption></figure>")


def pad(samplers: Any, labels: list[int], seeds: tuple[int, int]) -> str:
    """The map with its ring; empty where one class alone is painted.

    Args:
        samplers: of the model.
        labels: the classes, from left to right.
        seeds: at the top, at the bottom.
    """
    if len(labels) < 2:
        return ""
    with plain_errors():
        image = painted(samplers, labels, seeds)
    names = [samplers.pipe.class_names[label] for label in labels]
    size = samplers.pipe.image_size
    hard = " dd2-hard" if size < present.HARD else ""
    told = html.escape(f"Classes across, seed {seeds[0]} at the top, seed {seeds[1]} at the bottom")
    return (
        f'<figure class="dd2-map"><div class="dd2-pad" tabindex="0" role="slider" '
        f'aria-label="{told}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="50" '
        f'aria-orientation="vertical" data-rows="{ROWS}" '
        f'data-classes="{html.escape(json.dumps(names))}">'
        f'<img class="dd2-sheet-of{hard}" alt="{told}" draggable="false" '
        f'width="{image.shape[1]}" height="{image.shape[0]}" src="{present.data_uri(image)}">'
        f'<i class="dd2-knob" style="width:{100 / len(labels):.2f}%"></i></div>'
        f"<figcaption>Drag the ring: a class across, from seed {seeds[0]} down to seed {seeds[1]}."
        "</figcaption></figure>"
    )
