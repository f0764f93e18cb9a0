"""A picture of every class, painted once by the one-step model: in the lists of classes a visitor
sees what is chosen. And the colour that the model's pictures have at their edge.

The pictures reach the lists as a style sheet: an option stays a name to keyboards and screen
readers, and where nothing can be painted the names stand alone.
"""

import base64
import contextlib
import io
import re
from functools import lru_cache
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from app import zero
from app.html.present import HARD, SMALL
from dd2core import DD2Error
from dd2core.tools.images import as_pillow

CLASSES = "dd2-classes"  # marks a list of classes
MOST = 64  # classes that have a picture
SIDE = 32  # pixels of one, at most
AT_ONCE = 8  # images in one pass: a batch that the page is warmed up for
SEED = 0
PLAIN = re.compile(r"[^A-Za-z0-9-]")


def samples(samplers: Any) -> np.ndarray | None:
    """One-step images uint8 (n, H, W, C) of the first `MOST` classes, painted once; None where
    that is slow, or paid for, or refused."""
    pipe = samplers.pipe
    slow = pipe.device.type == "cpu" and pipe.image_size > SMALL
    if zero.LENT or slow or pipe.generator is None:
        return None
    with contextlib.suppress(gr.Error, DD2Error):
        return _painted(samplers)
    return None


@lru_cache(maxsize=32)
def _painted(samplers: Any) -> np.ndarray:
    count = min(len(samplers.pipe.class_names), MOST)
    parts = []
    for start in range(0, count, AT_ONCE):
        labels = [min(start + i, count - 1) for i in range(AT_ONCE)]
        parts.append(samplers.gallery(labels, SEED + start).images)
    return np.concatenate(parts)[:count]


def paper(samplers: Any) -> str:
    """black or white: what the pictures' corners are nearer to; black where none can be painted."""
    painted = samples(samplers)
    if painted is None:
        return "black"
    return "white" if np.median(painted[:, [0, 0, -1, -1], [0, -1, 0, -1]]) > 127 else "black"


def style(samplers: Any) -> str:
    """The style sheet that puts a picture before each option of the lists of classes."""
    painted = samples(samplers)
    if painted is None:
        return ""
    hard = "image-rendering:pixelated;" if painted.shape[1] < HARD else ""
    rules = [
        f".{CLASSES} li[role=option]{{align-items:center}}",
        f".{CLASSES} li[role=option]::before{{background-image:url({_sheet(painted)});"
        f"background-size:{len(painted)}00% 100%;{hard}width:{SIDE}px;height:{SIDE}px;"
        "display:inline-block;vertical-align:middle;margin-right:.5rem;border-radius:4px}"
    ]
    for i, name in enumerate(samplers.pipe.class_names[:len(painted)]):
        rules.append(f'.{CLASSES} li[role=option][aria-label="{_quoted(name)}"]::before'
                     f'{{content:"";background-position:{-SIDE * i}px 0}}')
    return f"<style>{''.join(rules)}</style>"


def _quoted(name: str) -> str:
    """A name inside a string of CSS, whatever is in it."""
    return PLAIN.sub(lambda found: f"\\{ord(found[0]):x} ", name)


def _sheet(painted: np.ndarray) -> str:
    """All pictures in a row, as a data address."""
    images = [as_pillow(image) for image in painted]
    side = min(SIDE, images[0].width)
    row = Image.new(images[0].mode, (side * len(images), side))
    for i, image in enumerate(images):
        small = image if image.width == side else image.resize((side, side), Image.Resampling.BOX)
        row.paste(small, (side * i, 0))
    data = io.BytesIO()
    row.save(data, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
