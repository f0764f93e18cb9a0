"""The largest of a row, found in runs, is what argmax finds."""

import pytest
import torch

from dd2core.tools.numerics import first_largest


@pytest.mark.parametrize("shape", [(5, 32), (3, 7, 512), (2, 96), (4, 33), (1, 1), (0, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_argmax(shape, dtype):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    got = first_largest(scores)
    assert got.dtype == torch.int64 and torch.equal(got, scores.argmax(-1))


def test_of_equal_numbers_the_first_counts():
    """Within a run, in two runs, and in a row of one number only."""
    scores = torch.randint(0, 3, (200, 256), generator=torch.Generator().manual_seed(0)).float()
    scores[0] = 1.0
    expected = [row.index(max(row)) for row in scores.tolist()]
    assert first_largest(scores).tolist() == expected


def test_rows_that_are_not_numbers_still_give_a_place():
    scores = torch.zeros(3, 128)
    scores[0, 70], scores[1], scores[2, 5] = float("nan"), float("-inf"), float("inf")
    assert first_largest(scores).tolist() == [70, 0, 5]


def test_shapes_alone_are_enough():
    """Models are counted and planned on the meta device and with fake tensors."""
    assert first_largest(torch.zeros(2, 5, 64, device="meta")).shape == (2, 5)
