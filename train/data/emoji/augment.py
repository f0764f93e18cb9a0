"""Changed copies of a picture: mirrored, a little smaller, shifted, of slightly other hue.

Copies are files and not made at reading time, as tokens are extracted once per picture. A picture
is never enlarged and never shifted by parts of a pixel: it stays as sharp as it was, and whole.
"""

import hashlib
import math

import numpy as np
from PIL import Image

SMALLEST = 0.84  # of a side
MOST_HUE = 12.0  # degrees, either way
_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263],
                 [0.211456, -0.522591, 0.311135]])


def is_mirrored(copy: int, allowed: bool) -> bool:
    """Whether a copy (1, 2, …) is mirrored: every other one, where it may be."""
    return allowed and copy % 2 == 1


def changed(picture: np.ndarray, name: str, copy: int, mirror: bool) -> np.ndarray:
    """One copy; the same name and number give the same one.

    Args:
        picture (np.ndarray): uint8 (size, size, 3), on white.
        name (str): of the picture.
        copy (int): its number, from 1.
        mirror (bool): whether left and right change places.

    Returns:
        np.ndarray: uint8 (size, size, 3).
    """
    size = len(picture)
    digest = hashlib.sha256(f"{name} {copy}".encode()).digest()
    scale, across, down, hue = np.frombuffer(digest, "<u4")[:4] / 2**32  # in [0, 1)
    side = round(size * (SMALLEST + (1 - SMALLEST) * scale))
    turned = rotate_hue(picture[:, ::-1] if mirror else picture, MOST_HUE * (2 * hue - 1))
    out = np.full_like(picture, 255)
    left, top = (int((size - side + 1) * u) for u in (across, down))
    out[top : top + side, left : left + side] = np.asarray(
        Image.fromarray(turned).resize((side, side), Image.Resampling.LANCZOS))
    return out


def rotate_hue(picture: np.ndarray, degrees: float) -> np.ndarray:
    """Colours turned about the grey axis; greys, white among them, stay. uint8 (H, W, 3)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.linalg.inv(_YIQ) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ _YIQ
    return (picture @ turn.T).round().clip(0, 255).astype(np.uint8)
