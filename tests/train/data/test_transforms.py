"""The public teachers' own squares, by their descriptions."""

import numpy as np
import pytest
import torch
from PIL import Image

from dd2core.errors import DD2Error
from tests.support.train_helpers import config
from train.data.transforms.squares import adm, count, read_square, var, variants


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_adm_halves_by_boxes_as_long_as_twice_the_size_is_left():
    found = adm(picture(64, 64), 16)
    pixels = np.asarray(picture(64, 64)).astype(float)
    boxes = pixels.reshape(32, 2, 32, 2, 3).mean((1, 3)).reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(found) - boxes).max() <= 2  # each halving rounds twice to 8 bits


def test_adm_then_resizes_by_bicubic_and_takes_the_centre():
    p = picture(50, 21)  # less than twice 16: not halved
    wanted = p.resize((round(50 * 16 / 21), 16), Image.Resampling.BICUBIC)
    left = (wanted.width - 16) // 2
    assert np.array_equal(np.asarray(adm(p, 16)),
                          np.asarray(wanted.crop((left, 0, left + 16, 16))))


@pytest.mark.parametrize("size", [(50, 21), (21, 50), (16, 16), (9, 12), (130, 65)])
@pytest.mark.parametrize("how", ["square", "var", "adm"])
def test_every_way_gives_squares_of_every_picture(size, how):
    assert read_square(picture(*size), how, 16, 3).shape == (3, 16, 16)
    assert read_square(picture(*size), how, 16, 1).shape == (1, 16, 16)


def test_var_resizes_the_shorter_side_to_an_eighth_more_by_lanczos():
    p = picture(72, 54)
    wanted = p.resize((24, 18), Image.Resampling.LANCZOS).crop((4, 1, 20, 17))
    assert np.array_equal(np.asarray(var(p, 16)), np.asarray(wanted))


def test_ten_crops_are_corners_and_centre_of_a_larger_square_and_their_mirror_images():
    p = picture(40, 40)
    found = variants(p, "adm", 20, 3, False, 10)
    large = read_square(p, "adm", 22, 3)
    assert found.shape == (10, 3, 20, 20) and count(False, 10) == 10
    for i, (y, x) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]):
        assert torch.equal(found[i], large[:, y : y + 20, x : x + 20])
    for i, other in enumerate([1, 0, 3, 2, 4]):  # a mirrored left corner is the right one
        assert torch.equal(found[5 + i], found[other].flip(-1))


def test_mirror_images_follow_their_picture():
    found = variants(picture(20, 30), "square", 16, 3, True, 1)
    assert torch.equal(found[1], found[0].flip(-1)) and count(True, 1) == len(found) == 2


@pytest.mark.parametrize("word", ["tokens.transform=other", "tokens.crops=5",
                                  "tokens.workers=-1", "samples.n=0", "gts.data=else"])
def test_settings_that_cannot_be_are_refused(word):
    with pytest.raises(DD2Error, match=word.split("=")[0]):
        config(word)
