"""Parts of a data set hold its classes in their shares, however the data are sorted."""

import pytest
import torch

from tests.support.train_helpers import config
from train.data import enough
from train.data.batches import evenly, mixed, spaced
from train.data.fashion import DEBIAN_FOLDER
from train.data.source import load_data
from train.settings.cli import load_config

SORTED = torch.arange(20).repeat_interleave(250)  # 5,000 images of 20 classes


def shares(labels, pick):
    return labels[pick].bincount(minlength=int(labels.max()) + 1)


@pytest.mark.parametrize("n", [20, 96, 100, 2000, 4999])
def test_class_sorted_data_are_drawn_from_every_class(n):
    found = shares(SORTED, evenly(SORTED, n))
    assert found.sum() == n and found.min() >= n // 20 and found.max() <= n // 20 + 1


def test_unequal_classes_keep_their_shares():
    labels = torch.tensor([0] * 700 + [2] * 200 + [5] * 100)
    assert shares(labels, evenly(labels, 100))[[0, 2, 5]].tolist() == [70, 20, 10]
    assert shares(labels, evenly(labels, 2300))[[0, 2, 5]].tolist() == [1610, 460, 230]


def test_data_in_rounds_are_drawn_from_every_class():
    labels = torch.arange(5000) % 10  # every tenth image is of class 0
    assert shares(labels, evenly(labels, 500)).tolist() == [50] * 10
    assert shares(labels, evenly(labels, 50)).tolist() == [5] * 10


def test_within_a_class_images_lie_apart():
    pick = evenly(SORTED, 40)
    assert (pick[::2] % 250 == 0).all() and (pick[1::2] % 250 == 125).all()


def test_the_whole_set_stays_as_it_is():
    for labels in (SORTED, SORTED.flip(0), torch.randint(9, (5000,))):
        assert torch.equal(evenly(labels, 5000), torch.arange(5000))
        assert torch.equal(evenly(labels, 10_000), torch.arange(10_000) % 5000)
        assert torch.equal(evenly(labels, 5001)[:5000], torch.arange(5000))


@pytest.mark.parametrize("absent", [1, 2, 5, 9])
def test_a_beginning_without_a_class_is_never_taken(absent):
    source = torch.Generator().manual_seed(absent)
    labels = torch.randint(10, (5000,), generator=source)
    first = (labels % 10 >= absent).nonzero()[:, 0][:1000]
    labels = torch.cat([labels[first], labels])
    for n in (10, 30, 60, 100, 300, 1000):
        assert (shares(labels, evenly(labels, n)) > 0).all()


def test_fashion_mnist_is_mixed_so_its_beginning_is_taken():
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    d = load_data(load_config(["preset=fashion-llamagen"]))
    for labels, sizes in ((d.test_labels, (100, 2000, 10_000)), (d.labels, (10_000, 20_000))):
        for n in sizes:  # sample grid, tokens that the teacher looks at, evaluation, DD1's pairs
            assert torch.equal(evenly(labels, n), torch.arange(n))


def test_spaced_indices_reach_over_the_whole():
    assert spaced(4, 10).tolist() == [0, 2, 5, 7]
    assert spaced(10, 10).tolist() == spaced(99, 10).tolist() == list(range(10))
    assert spaced(3, 0).tolist() == []


@pytest.mark.parametrize("labels", [SORTED, torch.arange(50) % 7, torch.tensor([3, 3, 3, 0])])
def test_every_beginning_of_the_mixed_order_is_fair(labels):
    order = mixed(labels)
    assert torch.equal(order.sort().values, torch.arange(len(labels)))
    total = labels.bincount()
    for n in range(1, len(labels), 7):
        off = labels[order[:n]].bincount(minlength=len(total)) - n * total / len(labels)
        assert off.abs().max() <= 1


# What is held out -----------------------------------------------------------------------------

@pytest.mark.parametrize(("counts", "held"), [
    ([20, 20, 20], [2, 2, 2]), ([2, 3, 9, 10, 19, 20], [1, 1, 1, 1, 1, 2]), ([100], [10])])
def test_every_class_has_pictures_in_both_parts(counts, held, tmp_path):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    test = enough.hold_out(tmp_path, [str(i) for i in range(len(counts))], labels)
    assert labels[test].bincount(minlength=len(counts)).tolist() == held
    assert (labels[~test].bincount(minlength=len(counts)) > 0).all()


def test_balanced_classes_are_held_out_as_before():
    labels = load_data(config()).labels
    test = enough.hold_out("x", ["a", "b", "c"], torch.arange(3).repeat_interleave(20))
    assert test.nonzero()[:, 0].tolist() == list(range(9, 60, 10)) and len(labels) == 54
