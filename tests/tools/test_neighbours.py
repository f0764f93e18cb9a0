"""Nearest neighbours against every distance taken by itself."""

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.tools import neighbours
from dd2core.tools.neighbours import nearest


@pytest.mark.parametrize("at_once", [1, 300, 2**24])
def test_neighbours_are_those_of_all_distances_whatever_the_pieces(at_once, monkeypatch):
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    queries, keys = torch.randn(50, 6), torch.randn(100, 6)
    found = nearest(queries, keys, 3)
    every = torch.cdist(queries.double(), keys.double())
    expected = every.topk(3, largest=False)
    assert torch.equal(found.index, expected.indices)
    torch.testing.assert_close(found.distance, expected.values.float())


def test_a_copy_is_found_at_distance_0_though_vectors_are_long():
    """Far from the origin ‖q‖² + ‖c‖² − 2q·c has lost every digit of a small distance."""
    keys = 3000 + torch.randn(200, 8)
    found = nearest(keys[17:18], keys, 2)
    assert found.index[0, 0] == 17 and found.distance[0, 0] == 0 and found.distance[0, 1] > 0.1


def test_more_neighbours_than_vectors_is_one_sentence():
    with pytest.raises(DD2Error, match=r"k=3 nearest of 2 vectors cannot be found"):
        nearest(torch.randn(4, 5), torch.randn(2, 5), 3)
