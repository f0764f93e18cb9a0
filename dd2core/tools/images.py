"""Images as arrays: tiling them into a grid."""

import numpy as np
import torch
from torch import Tensor


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


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels → float32 in [−1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [−1, 1] → uint8 pixels, rounded."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
