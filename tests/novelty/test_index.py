"""The index of training images: a copy is found, real images are the measure, the file is small."""

import numpy as np
import pytest
import torch

from dd2core import DD2Error
from dd2core.novelty.classifier import Classifier
from dd2core.novelty.index import load_index, make
from dd2core.store.files import write_json, write_manifest, write_tensors
from dd2core.store.names import CLASSIFIER, CONFIG, NEIGHBOURS, weights

SIZES = {"image_channels": 1, "width": 4, "features": 40, "num_classes": 3}
COUNT = 300


def blobs(n: int, seed: int) -> torch.Tensor:
    """uint8 (n, 1, 28, 28): bright squares, each at its place."""
    source = torch.Generator().manual_seed(seed)
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    for image, (y, x, side, shade) in zip(
        images, torch.randint(2, 14, (n, 4), generator=source).tolist(), strict=True
    ):
        image[:, y : y + side, x : x + side] = 17 * shade
    return images


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return Classifier(**SIZES).eval()


@pytest.fixture(scope="module")
def folder(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_tensors(path / weights(CLASSIFIER), classifier.state_dict())
    write_json(path / CONFIG, {"classifier": SIZES})
    write_tensors(path / NEIGHBOURS, make(classifier, blobs(COUNT, 0), blobs(50, 1), 10**6))
    write_manifest(path)
    return path


def pixels(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def test_a_copy_is_found_and_lies_nearer_than_real_images_do(folder):
    known, images = load_index(folder), blobs(COUNT, 0)
    found = known.find(pixels(images[40:44]))
    assert (found.distance[:, 0] < known.near).all() and known.near < known.median
    assert (found.distance.diff(dim=1) >= 0).all()
    expected = torch.nn.functional.avg_pool2d(images[40:44].float(), 2)[:, 0]
    shown = torch.from_numpy(found.thumbnails[:, 0, ..., 0]).float()
    assert (shown - expected).abs().max() <= 255 / 14 + 1  # half a step between eight shades
    assert known.agreement > 0.8 and known.count == len(known.codes) == COUNT


def test_the_held_out_median_is_that_of_the_search_itself(folder):
    known = load_index(folder)
    own = known.find(pixels(blobs(50, 1)), 1).distance[:, 0]
    assert own.median().item() == pytest.approx(known.median, rel=1e-5)


def test_an_index_that_is_too_large_keeps_an_even_part(classifier):
    every = make(classifier, blobs(COUNT, 0), blobs(20, 1), 10**6)
    size = every["codes"].numel() + every["thumbnails"].numel()
    part = make(classifier, blobs(COUNT, 0), blobs(20, 1), size - 1)
    assert torch.equal(part["codes"], every["codes"][::2]) and int(part["count"]) == COUNT
    assert part["codes"].numel() + part["thumbnails"].numel() < size


def test_no_index_is_none_and_a_damaged_one_is_one_sentence(folder, tmp_path):
    assert load_index(None) is None and load_index(tmp_path) is None
    tensors = make(Classifier(**SIZES).eval(), blobs(20, 0), blobs(20, 1), 10**6)
    for name in folder.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    for fault in ({"thumbnails": tensors["thumbnails"][:-9]}, {"codes": tensors["codes"][1:]},
                  {"shape": torch.tensor([20, 14, 14, 3])}):
        write_tensors(tmp_path / NEIGHBOURS, tensors | fault)
        write_manifest(tmp_path)
        with pytest.raises(DD2Error, match="no index of training images: make it anew"):
            load_index(tmp_path)
    (tmp_path / NEIGHBOURS).write_bytes(b"nothing")
    with pytest.raises(DD2Error, match="damaged"):
        load_index(tmp_path)


def test_what_makes_no_index_is_refused(classifier, folder):
    with pytest.raises(DD2Error, match="at least 3 training images"):
        make(classifier, blobs(2, 0), blobs(9, 1), 10**6)
    with pytest.raises(DD2Error, match="features of all images are the same"):
        make(classifier, torch.zeros(9, 1, 28, 28, dtype=torch.uint8), blobs(9, 1), 10**6)
    with pytest.raises(DD2Error, match="cannot be looked for among"):
        load_index(folder).find(np.zeros((1, 28, 28, 3), np.uint8))
