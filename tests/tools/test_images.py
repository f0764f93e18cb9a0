"""Tiling images into a grid."""

import numpy as np
import pytest

from dd2core.tools.images import grid_image


def numbered(n: int, channels: int) -> np.ndarray:
    """n images of 3×4 pixels; image i is filled with i."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None],
                           (n, 3, 4, channels)).copy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gap, zoom", [(0, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("n, columns, rows", [(6, 3, 2), (7, 3, 3), (2, 5, 1), (1, 1, 1)])
def test_every_image_stands_in_its_place_on_white(channels, gap, zoom, n, columns, rows):
    grid = grid_image(numbered(n, channels), columns, gap, zoom)
    columns, h, w = min(columns, n), 3 * zoom, 4 * zoom
    assert grid.dtype == np.uint8
    assert grid.shape == (rows * (h + gap) - gap, columns * (w + gap) - gap, 3)
    painted = np.zeros(grid.shape[:2], bool)
    for i in range(n):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        assert (grid[top : top + h, left : left + w] == i).all()
        painted[top : top + h, left : left + w] = True
    assert (grid[~painted] == 255).all()


def test_zoom_repeats_pixels():
    image = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    assert grid_image(image, 1, zoom=2)[..., 0].tolist() == [
        [0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
