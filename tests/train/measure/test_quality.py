"""Both extractors, the part set apart to choose by, path length and nearest training images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dd2core.errors import DD2Error
from dd2core.store.files import write_json, write_manifest, write_tensors
from train.data.fashion import Data
from train.measure.classifier import ARCHITECTURES, Classifier, find_judge
from train.measure.frechet import fidelity
from train.measure.quality import neighbours
from train.measure.quality.extractors import Extractors, numbers_of
from train.measure.quality.path_length import EPSILON, filtered_mean, path_length
from train.measure.quality.split import choose, validation

SIZES = {"image_channels": 1, "width": 4, "features": 8, "num_classes": 3}


def extractor(seed: int, arch: str = "plain") -> Classifier:
    torch.manual_seed(seed)
    return Classifier(**SIZES, arch=arch).eval().requires_grad_(False)


def data(n: int = 90, held: int = 30, seed: int = 0) -> Data:
    source = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n + held, 1, 16, 16), generator=source).to(torch.uint8)
    labels = torch.arange(n + held) % 3
    return Data(images[:n], labels[:n].sort().values, images[n:], labels[n:], ["a", "b", "c"])


# Extractors -------------------------------------------------------------------------------------

def test_the_same_images_are_measured_by_both():
    images, labels, d = data(seed=1).images, torch.arange(90) % 3, data()
    first, second = extractor(0), extractor(1, "residual")
    both = numbers_of(images, labels, d, Extractors(first, second))
    for numbers, model in ((SimpleNamespace(**both), first), (both["judge"], second)):
        expected = fidelity(images, d.test_images, model)
        right = (model(images.float() / 127.5 - 1).argmax(-1) == labels).float().mean().item()
        assert (numbers.fd, numbers.precision, numbers.recall) == (
            expected.fd, expected.precision, expected.recall)
        assert numbers.accuracy == pytest.approx(right)
    assert both["fd"] != both["judge"].fd
    assert "judge.safetensors" in both["judge"].extractor
    alone = numbers_of(images, labels, d, Extractors(first))
    assert alone["judge"] is None and alone["fd"] == both["fd"]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", [16, 28, 33])
def test_every_architecture_takes_any_size_of_picture(arch, size):
    model = extractor(0, arch)
    x = torch.randn(2, 1, size, size)
    assert model.features(x).shape == (2, 8) and model(x).shape == (2, 3)


def test_another_architecture_is_another_function_of_as_many_features():
    x = torch.randn(4, 1, 16, 16)
    assert not torch.allclose(extractor(0).features(x), extractor(0, "residual").features(x))
    with pytest.raises(DD2Error, match="arch=deep is unknown: use plain or residual"):
        Classifier(**SIZES, arch="deep")


def test_a_judge_is_found_by_its_own_file_and_checked(tmp_path):
    assert find_judge(tmp_path) is None
    model = extractor(3, "residual")
    sizes = SIZES | {"arch": "residual"}
    write_tensors(tmp_path / "judge.safetensors", model.state_dict())
    write_json(tmp_path / "judge.json", {"classifier": sizes, "test_accuracy": 0.9})
    write_manifest(tmp_path)
    found, told = find_judge(tmp_path)
    x = torch.randn(2, 1, 16, 16)
    assert told == sizes and torch.equal(found.features(x), model.features(x))
    assert not any(p.requires_grad for p in found.parameters()) and not found.training
    write_json(tmp_path / "judge.json", {"classifier": SIZES})  # of the other architecture
    with pytest.raises(DD2Error, match=r"judge\.json is damaged"):
        find_judge(tmp_path)
    write_manifest(tmp_path)
    with pytest.raises(DD2Error, match=r"judge\.safetensors does not fit"):
        find_judge(tmp_path)


# Test or validation -----------------------------------------------------------------------------

def test_what_is_chosen_by_are_training_images_and_no_test_image():
    d = data()
    for i, image in enumerate(torch.cat([d.images, d.test_images])):
        image[0, 0, :2] = torch.tensor([i // 256, i % 256])  # tells them apart
    v = choose(d, "validation")
    mark = [{int(x[0, 0, 0]) * 256 + int(x[0, 0, 1]) for x in images}
            for images in (v.images, v.test_images, d.test_images)]
    train, apart, test = mark
    assert len(apart) == 30 and len(train) == 60 and not train & apart and not apart & test
    assert v.test_labels.bincount().tolist() == [10, 10, 10]  # evenly
    again = choose(d, "validation")
    assert torch.equal(v.test_images, again.test_images)
    assert choose(d, "test") is d


@pytest.mark.parametrize(("n", "held", "expected"), [
    (60_000, 10_000, 5000), (1000, 100, 100), (100, 100, 50)])
def test_as_many_are_set_apart_as_are_held_out_within_limits(n, held, expected):
    pick = validation(torch.arange(n) % 10, held)
    assert len(pick) == len(pick.unique()) == expected and torch.equal(pick, pick.sort().values)


def test_too_few_to_set_apart_is_one_sentence():
    with pytest.raises(DD2Error, match="split=validation sets 3 of 7 training images apart"):
        validation(torch.zeros(7, dtype=torch.int64), 10)


# Path length ------------------------------------------------------------------------------------

def test_the_mean_without_the_ends_is_stylegans():
    x = torch.randn(777).exp()
    low, high = (np.percentile(x.numpy(), q, method=method)
                 for q, method in ((1, "lower"), (99, "higher")))
    kept = [v for v in x.tolist() if low <= v <= high]
    assert len(kept) < 777 and filtered_mean(x) == pytest.approx(np.mean(kept), rel=1e-5)


def still_pipe(generate, dim: int = 64):
    """A pipeline whose "tokens" are vectors, and whose images are these vectors."""
    teacher = SimpleNamespace(
        num_tokens=4, code_dim=dim, device=torch.device("cpu"), quantise=lambda x: x,
        decode=lambda x: x)
    return SimpleNamespace(teacher=teacher, generator=SimpleNamespace(generate=generate))


class Flat(nn.Module):
    """Features = a factor times all numbers of the image."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def features(self, x):
        return self.factor * x.flatten(1)


def test_path_length_of_the_identity_is_the_squared_speed_of_the_way():
    """On the way between two latents of length r at angle Ω the speed is rΩ, so d²/ε² = r²Ω²."""
    dim, labels = 64, torch.zeros(300, dtype=torch.int64)
    found = path_length(still_pipe(lambda eps, y: eps, dim), Extractors(Flat(1.0), Flat(3.0)),
                        labels, 0, 128)
    assert found.all == pytest.approx(4 * dim * (np.pi / 2) ** 2, rel=0.05)
    assert found.judge_all == pytest.approx(9 * found.all, rel=1e-4)
    assert (found.n, found.epsilon, found.changed) == (300, EPSILON, 1.0)


def test_a_generator_that_ignores_its_latent_has_no_path_length():
    pipe = still_pipe(lambda eps, y: torch.ones_like(eps) * y[:, None, None])
    found = path_length(pipe, Extractors(Flat(1.0)), torch.arange(20) % 3, 0, 8)
    assert (found.all, found.filtered, found.changed, found.judge_all) == (0, 0, 0, None)


# Nearest training images --------------------------------------------------------------------------

def test_copies_of_training_images_are_nearer_than_held_out_ones_and_these_are_not():
    d, model = data(n=200, held=80), extractor(0)
    copied = neighbours.search(d.images[50:90], d, model, 0.05)
    assert copied.numbers.share == 1 and copied.numbers.median == 0
    assert copied.found.index[:, 0].tolist() == list(range(50, 90))
    real = neighbours.search(d.test_images, d, model, 0.25)
    assert real.numbers.share == pytest.approx(0.25, abs=0.02)
    assert real.numbers.median == pytest.approx(real.numbers.held_median)
    assert (real.numbers.n, real.numbers.held, real.numbers.train) == (80, 80, 200)


def test_the_sheet_shows_each_sample_beside_its_nearest_the_nearest_first():
    d, model = data(n=40, held=20), extractor(0)
    samples = d.test_images.clone()
    samples[7] = d.images[11]
    found = neighbours.search(samples, d, model, 0.1).found
    shown = neighbours.sheet(samples, d, found)
    side, gap = 32, 2
    assert shown.shape == (10 * (side + gap) - gap, 8 * (side + gap) - gap, 3)
    cells = [shown[:side, i * (side + gap):][:, :side, 0] for i in range(5)]
    copy = d.images[11, 0].numpy().repeat(2, 0).repeat(2, 1)
    assert (cells[0] == copy).all() and (cells[1] == copy).all()
    assert (cells[4] == samples[0, 0].numpy().repeat(2, 0).repeat(2, 1)).all()
