"""A picture and its erased part, as the browser sends them → tensors, or one sentence.

Nothing is uploaded: the browser reads and shrinks the file, and a few kilobytes come as text in the
request, `data:image/png;base64,…`. What comes may be anything all the same.
"""

import base64
import binascii
import io
import re
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from app.requests import refuse

MOST_CHARACTERS = 24_000  # of a picture; a request has room for 32 kB
MOST_SIDE = 1024  # pixels, before it is shrunk
KINDS = ("PNG", "JPEG", "WEBP")
HEAD = re.compile(r"data:image/(?:png|jpeg|webp);base64,")


def read_picture(text: Any, size: int, channels: int, paper: str = "black") -> Tensor:
    """A picture cut to a square of `size` pixels, uint8 (1, channels, size, size); `paper` is
    behind what is transparent.

    Raises:
        gr.Error: it is none, or too large.
    """
    image = _open("The picture", text)
    flat = Image.new("RGBA", image.size, paper)
    flat.alpha_composite(image)
    square = ImageOps.fit(flat.convert("L" if channels == 1 else "RGB"), (size, size))
    pixels = np.asarray(square).reshape(size, size, channels)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]


def read_mask(text: Any, size: int) -> Tensor:
    """What is not transparent is erased: bool (1, size, size).

    Raises:
        gr.Error: it is no picture, or nothing is erased.
    """
    image = _open("The erased part", text)
    alpha = np.asarray(image.resize((size, size), Image.Resampling.NEAREST))[..., 3]
    mask = torch.from_numpy(alpha > 127)[None]
    if not mask.any():
        raise refuse("Nothing is erased: brush over a part of the picture first.")
    return mask


def _open(what: str, text: Any) -> Image.Image:
    """The image in a data address, RGBA."""
    head = HEAD.match(text) if isinstance(text, str) else None
    if head is None:
        raise refuse(f"{what} is no picture: draw one, or choose a PNG, JPEG or WebP file.")
    if len(text) > MOST_CHARACTERS:
        raise refuse(f"{what} is too large: at most {MOST_CHARACTERS:,} characters can be sent.")
    try:
        data = base64.b64decode(text[head.end():], validate=True)
        with Image.open(io.BytesIO(data), formats=KINDS) as image:
            large = max(image.size) > MOST_SIDE  # known before any pixel is unpacked
            pixels = None if large else image.convert("RGBA")
    except (binascii.Error, OSError, ValueError, SyntaxError, EOFError, IndexError,
            Image.DecompressionBombError):
        raise refuse(f"{what} is no picture: draw one, or choose a PNG, JPEG or WebP "
                     "file.") from None
    if pixels is None:
        raise refuse(f"{what} is too large: at most {MOST_SIDE} pixels a side.")
    return pixels
