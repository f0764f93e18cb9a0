"""Pixels: floats ↔ uint8, tiling into a grid, enlarging, PNG and GIF files in memory."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels → float32 in [−1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [−1, 1] → uint8 pixels, rounded; what lies outside is clipped."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def grid_image(images: np.ndarray, columns: int, gap: int = 2, zoom: int = 1) -> np.ndarray:
    """Tile images into one, on white.

    Args:
        images (np.ndarray): uint8 (n, H, W, C), C = 1 or 3.
        columns (int): images per row, at least 1.
        gap (int): pixels between images.
        zoom (int): whole-number magnification (nearest neighbour).

    Returns:
        np.ndarray: uint8 (rows·H', columns·W', 3).
    """
    n, h, w = images.shape[:3]
    images = images.repeat(zoom, 1).repeat(zoom, 2)
    h, w = h * zoom, w * zoom
    columns = min(columns, n)
    rows = -(-n // columns)
    out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        out[y : y + h, x : x + w] = image  # grey broadcasts to RGB
    return out


def zoom_to(images: np.ndarray, side: int) -> int:
    """The least whole magnification that gives images (…, H, W, C) sides of at least `side`."""
    return -(-side // min(images.shape[-3:-1]))


def as_pillow(image: np.ndarray, zoom: int = 1) -> Image.Image:
    """uint8 (H, W, 1 or 3) → a grey or RGB Pillow image, each pixel `zoom` wide and high."""
    image = image.repeat(zoom, 0).repeat(zoom, 1)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def png(image: Image.Image) -> bytes:
    """The PNG file of an image."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def gif(
    frames: Sequence[Image.Image], milliseconds: int | Sequence[int], colours: int | None = None
) -> bytes:
    """The file of an animation that goes round for ever.

    Args:
        frames (Sequence[Image.Image]): at least one, of one size.
        milliseconds (int | Sequence[int]): that a frame stays, one number for all or one each;
            players count in hundredths of a second.
        colours (int | None): a common palette of so many, taken from the last frame: smaller files
            where that frame has all of them; None: each frame has its own, up to 256.
    """
    if colours is not None:
        palette = frames[-1].quantize(colours)
        frames = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    times = milliseconds if isinstance(milliseconds, int) else list(milliseconds)
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=list(frames[1:]), duration=times,
                   loop=0)
    return data.getvalue()
