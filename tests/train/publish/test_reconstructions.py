"""The picture of originals and their reconstructions."""

import pytest

from dd2core.errors import DD2Error
from train.publish.reconstructions import COLUMNS, Reconstructions, rows, run
from train.settings.cli import ROOT

TOKENIZER = ROOT / "assets/fashion-llamagen/tokenizer.safetensors"


def test_each_row_is_the_same_pictures_and_the_first_the_originals():
    found = rows("fashion-llamagen", [TOKENIZER, TOKENIZER]).float()
    assert found.shape == (3, COLUMNS, 1, 28, 28) and (found[1] == found[2]).all()
    errors = (found[1] - found[0]).abs().mean((1, 2, 3))
    others = (found[1] - found[0].roll(1, 0)).abs().mean((1, 2, 3))
    assert 0 < errors.max() < others.min()


def test_no_tokenizer_is_one_sentence():
    with pytest.raises(DD2Error, match=r"^of= names no tokenizer: give one or more files"):
        run(Reconstructions())
