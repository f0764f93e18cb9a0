"""Pixels, grids, enlarged images, PNG and GIF files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dd2core.tools.images import as_pillow, gif, grid_image, png, to_float, to_uint8, zoom_to


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


# Floats and uint8 -------------------------------------------------------------------------------

def test_pixels_survive_the_way_to_floats_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)
    x = to_float(pixels)
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 1
    assert torch.equal(to_uint8(x), pixels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_clipping_before_or_after_rounding_gives_the_same_pixels(dtype):
    """Over every finite number of the type: the pipeline clipped after rounding."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    x = x[x.isfinite()]
    after = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(to_uint8(x), after) and after.unique().numel() == 256


def test_what_lies_outside_is_clipped():
    x = torch.tensor([-3.0, -1.001, 1.001, 300.0, float("inf"), -float("inf")])
    assert to_uint8(x).tolist() == [0, 0, 255, 255, 255, 0]


# Files ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("size", "zoom"), [((3, 4), 4), ((12, 40), 1), ((11, 40), 2)])
def test_an_image_is_enlarged_just_enough(size, zoom):
    image = np.arange(np.prod(size) * 3, dtype=np.uint8).reshape(*size, 3)
    assert zoom_to(image, 12) == zoom_to(image[None], 12) == zoom
    shown = np.asarray(as_pillow(image, zoom))
    assert shown.shape[:2] == (size[0] * zoom, size[1] * zoom)
    assert np.array_equal(shown[::zoom, ::zoom], image)
    assert np.array_equal(shown[zoom - 1 :: zoom, zoom - 1 :: zoom], image)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_holds_the_pixels(channels, mode):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    file = Image.open(io.BytesIO(png(as_pillow(image))))
    assert file.format == "PNG" and file.mode == mode
    assert np.array_equal(np.asarray(file).reshape(image.shape), image)


@pytest.mark.parametrize(("times", "shown"), [(70, [70, 70, 70]), ([20, 100, 2500],) * 2])
@pytest.mark.parametrize("colours", [None, 8])
def test_a_gif_shows_every_frame_for_its_time_for_ever(times, shown, colours):
    frames = [as_pillow(np.full((4, 4, 3), v, np.uint8)) for v in (0, 100, 200)]
    frames[-1].paste((0, 0, 0), (0, 0, 1, 1))
    frames[-1].paste((100, 100, 100), (1, 1, 2, 2))
    file = Image.open(io.BytesIO(gif(frames, times, colours)))
    assert file.format == "GIF" and file.n_frames == 3 and file.info["loop"] == 0
    for i, value in enumerate((0, 100, 200)):
        file.seek(i)
        assert file.info["duration"] == shown[i]
        assert file.convert("RGB").getpixel((3, 3)) == (value,) * 3
