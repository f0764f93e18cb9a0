"""Too few images are refused before training, and again where they would be measured."""

import shutil

import numpy as np
import pytest
import torch

from dd2core.errors import DD2Error
from tests.support.train_helpers import PICTURES, cli, config, grey
from train import export
from train.data.source import find_pictures
from train.evaluate import _check
from train.measure import inception
from train.measure.classifier import Classifier
from train.measure.frechet import fidelity
from train.measure.reference import Reference


def folder(where, *counts):
    """Class folders with so many pictures."""
    for i, n in enumerate(counts):
        (where / f"c{i}").mkdir(parents=True)
        for j in range(n):
            shutil.copy(PICTURES / "disc" / f"{j % 20:02d}.png", where / f"c{i}" / f"{j:02d}.png")
    return where


@pytest.mark.parametrize(("counts", "says"), [
    ((6, 6), "has 12 pictures, of which every tenth is held out, 2 in all, and at least 4 are "
             "needed: give 20 pictures of each class"),
    ((20,), "has 20 pictures, of which every tenth is held out, 2 in all, and at least 4 are "
            "needed: give 40 pictures of each class"),
    ((30,), "has 30 pictures"), ((10, 10, 10), "give 20 pictures of each class"),
    ((40, 1), "class c1 has 1 picture, and at least 2 are needed"),
    ((1, 1, 1, 1), "class c0, c1, c2, c3 has 1 picture"),
])
def test_too_few_pictures_are_refused_before_training(counts, says, tmp_path):
    where = folder(tmp_path / "data", *counts)
    for stage in ("tokenizer", "classifier"):
        stopped = grey(stage, tmp_path / "run", f"data={where}")
        assert stopped.startswith("error: ") and says in stopped and "\n" not in stopped
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize("counts", [(40,), (20, 20), (2, 2, 2, 2), (5, 6, 7, 8)])
def test_what_is_said_to_be_enough_is_enough(counts, tmp_path):
    found = find_pictures(config(f"data={folder(tmp_path, *counts)}"))
    held = found.labels[found.parts["test"]].bincount(minlength=len(counts))
    assert held.sum() >= 4 and (held > 0).all()


def test_a_small_val_is_refused_before_training(tmp_path):
    folder(tmp_path / "train", 10, 10)
    folder(tmp_path / "val", 1, 2)
    with pytest.raises(DD2Error, match="20 images to train on and 3 held out: at least 1 and 4"):
        find_pictures(config(f"data={tmp_path}"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier(1, 2, 8, 3).eval()


def images(n):
    return torch.randint(256, (n, 1, 16, 16), dtype=torch.uint8)


@pytest.mark.parametrize(("n", "m"), [(0, 10), (1, 10), (3, 10), (10, 3), (2, 2)])
def test_too_few_samples_or_references_are_one_sentence(n, m, model):
    with pytest.raises(DD2Error, match=f"{n} samples against {m} reference images cannot be"):
        fidelity(images(n), images(m), model)
    assert np.isfinite(fidelity(images(4), images(4), model).fd)


def test_features_that_are_not_finite_are_one_sentence(model):
    with torch.no_grad():
        model.penultimate.bias[0] = torch.nan
    with pytest.raises(DD2Error, match="features of samples or reference are not finite"):
        fidelity(images(8), images(8), model)


def test_references_that_are_all_the_same_are_one_sentence(model):
    with pytest.raises(DD2Error, match="features of all reference images are the same"):
        fidelity(images(8), images(1).expand(8, -1, -1, -1), model)


def test_inception_says_the_same(monkeypatch):
    x = torch.randn(12, 4)
    monkeypatch.setattr(inception, "features", lambda network, images, n, what: (x, x))
    good = {"mu": np.zeros(4), "sigma": np.eye(4)}
    assert np.isfinite(inception.compare(None, [], 12, Reference("r", **good, read=None, n=0)).fd)
    flat = {"mu": np.zeros(4), "sigma": np.zeros((4, 4))}
    with pytest.raises(DD2Error, match="features of all reference images are the same"):
        inception.compare(None, [], 12, Reference("r", **flat, read=None, n=0))
    x[0, 0] = torch.nan
    with pytest.raises(DD2Error, match="not finite"):
        inception.compare(None, [], 12, Reference("r", **good, read=None, n=0))


@pytest.mark.parametrize(("n", "nan"), [(1, False), (3, False), (8, True)])
def test_a_reference_with_nan_is_never_written(n, nan, model, tmp_path):
    if nan:
        with torch.no_grad():
            model.penultimate.bias[0] = torch.nan
    with pytest.raises(DD2Error, match=f"features of the {n} held-out images make no reference"):
        export._reference(images(n), model, tmp_path / "reference.npz")
    assert not list(tmp_path.iterdir())


def test_a_reference_is_written_whole(model, tmp_path):
    export._reference(images(8), model, tmp_path / "reference.npz")
    found = np.load(tmp_path / "reference.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["reference.npz"] and int(found["n"]) == 8
    assert np.isfinite(found["mu"]).all() and np.isfinite(found["sigma"]).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_samples_than_can_be_measured_are_refused_at_once(n):
    with pytest.raises(DD2Error, match=f"n={n} and batch=8 must be at least 4 and 1"):
        _check(config(f"evaluate.n={n}").evaluate)
    _check(config("evaluate.n=4").evaluate)


def test_too_few_are_refused_by_the_whole_command(tmp_path):
    where = folder(tmp_path / "data", 6, 6)
    stopped = cli("tokens", "preset=tiny", f"data={where}", f"out={tmp_path / 'run'}", "channels=1",
                  "base=fashion-llamagen", "image_size=28")
    assert stopped.startswith("error: ") and "at least 4 are needed" in stopped
