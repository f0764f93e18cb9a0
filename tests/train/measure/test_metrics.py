"""The evaluation's numbers against direct computations."""

import dataclasses

import numpy as np
import pytest
import torch

from dd2core.gts import ScoreOptions
from dd2core.sampling import Sampling
from dd2core.tools.images import to_float
from tests.support import tiny
from train.classifier import accuracy
from train.measure.agreement import agreement, posterior_floor
from train.measure.classifier import Classifier, ClassifierFeatures
from train.measure.frechet import extractor_name, fidelity, total_variance


@pytest.fixture
def classifier() -> Classifier:
    """An untrained extractor of 8 features for grey pictures, frozen."""
    torch.manual_seed(1)
    return Classifier(1, 4, 8, 3).eval().requires_grad_(False)


def blobs(n: int, seed: int, bright: int = 200) -> torch.Tensor:
    """Grey uint8 pictures (n, 1, 16, 16) of random rectangles."""
    source = np.random.default_rng(seed)
    images = np.zeros((n, 1, 16, 16), np.uint8)
    for image in images:
        (y, x), (h, w) = source.integers(0, 10, 2), source.integers(2, 7, 2)
        image[0, y : y + h, x : x + w] = source.integers(40, bright)
    return torch.from_numpy(images)


def features(model: Classifier, images: torch.Tensor) -> np.ndarray:
    return model.features(to_float(images)).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """‖μ₁ − μ₂‖² + tr(S₁ + S₂ − 2(S₁^½ S₂ S₁^½)^½), by symmetric eigenvalues alone."""
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross


def test_fd_of_a_set_to_itself_is_zero(classifier):
    images = blobs(200, 0)
    f = fidelity(images, images, classifier)
    assert abs(f.fd) < 1e-6 * total_variance(images, classifier)
    assert f.precision > 0.98 and f.recall > 0.98  # < in float32: a border case or two


@pytest.mark.parametrize("bright", [200, 60])
def test_fd_is_the_frechet_distance_of_the_features(classifier, bright):
    a, b = blobs(150, 1, bright), blobs(130, 2)
    x, y = features(classifier, a), features(classifier, b)
    f, expected = fidelity(a, b, classifier), frechet(x, y)
    assert expected > 0 and f.fd == pytest.approx(expected, rel=1e-3, abs=1e-9)
    variance = ((y - y.mean(0)) ** 2).sum() / (len(y) - 1)
    assert total_variance(b, classifier) == pytest.approx(variance, rel=1e-4)
    assert f.fd_percent == pytest.approx(100 * expected / variance, rel=1e-3)


def test_fd_grows_with_the_difference(classifier):
    reference = blobs(150, 2)
    near, far = (fidelity(blobs(150, 1, b), reference, classifier).fd for b in (200, 60))
    assert 0 < near < far


def test_precision_and_recall_tell_quality_from_variety(classifier):
    reference = blobs(120, 3)
    narrow = fidelity(reference[:4].repeat(30, 1, 1, 1), reference, classifier)
    assert narrow.precision == 1 and narrow.recall < 0.5
    checks = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255).to(torch.uint8)
    wide = fidelity(torch.cat([reference, checks.expand_as(reference)]), reference, classifier)
    assert wide.recall > 0.98 and wide.precision < 0.6  # half of it is nothing like the reference


def test_two_extractors_live_side_by_side(classifier):
    torch.manual_seed(2)
    other = Classifier(1, 4, 8, 3).eval().requires_grad_(False)
    a, b = blobs(80, 1, 60), blobs(80, 2)
    assert extractor_name(classifier) == extractor_name(classifier) != extractor_name(other)
    for model in (classifier, other, classifier):
        expected = frechet(features(model, a), features(model, b))
        assert fidelity(a, b, model).fd == pytest.approx(expected, rel=1e-3)


def test_the_wrapper_sees_what_the_classifier_sees(classifier):
    bound = type("Bound", (ClassifierFeatures,), {"classifier": classifier})("x", ["penultimate"])
    images = blobs(5, 0)
    assert torch.equal(bound(images)[0], classifier.features(to_float(images)))


def test_accuracy_counts(classifier):
    images = blobs(300, 5)
    guess = classifier(to_float(images)).argmax(-1)
    cpu = torch.device("cpu")
    assert accuracy(classifier, images, guess, cpu) == 1
    labels = guess.clone()
    labels[:30] = (labels[:30] + 1) % 3
    assert accuracy(classifier, images, labels, cpu) == pytest.approx(0.9)


# Agreement ------------------------------------------------------------------------------------

@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_nll_is_that_of_the_steps_of_sampling(cfg):
    """Teacher-forced NLL = what the KV-cached sampler itself says of the tokens it drew."""
    teacher, labels = tiny.teacher(spread=30.0), torch.tensor([0, 1, 2, 0, 1])
    noise, total = torch.rand(5, teacher.num_tokens), 0.0
    for (tokens, log_p), (a, b) in zip(teacher.steps(labels, cfg, noise=noise), teacher.spans,
                                       strict=True):
        total -= log_p.double().gather(-1, tokens[:, a:b, None]).sum().item()
    found = agreement(teacher, tokens, labels, cfg, batch=2)
    assert found.nll == pytest.approx(total / tokens.numel(), rel=1e-4)


def test_nll_by_hand_with_guidance():
    teacher, labels = tiny.teacher(spread=30.0), torch.tensor([2, 0, 1])
    tokens = torch.randint(teacher.num_codes, (3, teacher.num_tokens))
    c, u = (teacher.logits(tokens, y).double().detach() for y in
            (labels, torch.full_like(labels, teacher.num_classes)))
    log_p = (u + 2.5 * (c - u)).log_softmax(-1)
    expected = -np.mean([log_p[b, i, tokens[b, i]] for b in range(3)
                         for i in range(teacher.num_tokens)])
    assert agreement(teacher, tokens, labels, 2.5, 2).nll == pytest.approx(expected, rel=1e-5)


def test_the_teachers_tokens_agree_more_than_chance_and_greedy_ones_most():
    teacher, labels = tiny.teacher(spread=30.0), torch.arange(60) % 3
    tokens = {"greedy": teacher.sample(labels, 2.0, top_k=1), "own": teacher.sample(labels, 2.0),
              "chance": torch.randint(teacher.num_codes, (60, teacher.num_tokens))}
    nll = {k: agreement(teacher, v, labels, 2.0, 16).nll for k, v in tokens.items()}
    assert nll["greedy"] < nll["own"] - 0.1 < nll["chance"] - 0.2


def test_entropy_of_tokens():
    teacher, labels = tiny.teacher(), torch.zeros(2, dtype=torch.int64)
    flat = torch.arange(32).view(2, 16)  # every code once
    assert agreement(teacher, flat, labels, 1.0, 2).entropy == pytest.approx(np.log(32))
    two = torch.tensor([3, 3, 3, 7]).repeat(8).view(2, 16)
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert agreement(teacher, two, labels, 1.0, 2).entropy == pytest.approx(expected)
    assert agreement(teacher, torch.full((2, 16), 5), labels, 1.0, 2).entropy == 0


def test_the_floor_of_fcs_is_the_posterior_variance():
    """At t = 1 the posterior is the prior and λ = 1: E‖c_q − μ‖² = Σ p‖c‖² − ‖μ‖²; at 0 none."""
    teacher, labels = tiny.teacher(spread=30.0), torch.arange(600) % 3
    tokens = teacher.sample(labels)
    o = ScoreOptions(times=1, t_min=1.0, t_max=1.0)
    floor = posterior_floor(teacher, tokens, labels, o)
    p = teacher.log_probs(tokens, labels).exp()
    mean, square = p @ teacher.codebook, p @ teacher.codebook.square().sum(-1)
    assert floor == pytest.approx((square - mean.square().sum(-1)).mean().item(), rel=0.05)
    sharp = dataclasses.replace(o, t_min=0.02, t_max=0.02)
    assert posterior_floor(teacher, tokens, labels, sharp) < 1e-3 * floor


def test_other_tokens_lie_above_the_floor():
    teacher, labels = tiny.teacher(spread=30.0), torch.arange(200) % 3
    o = ScoreOptions(times=2, t_min=0.3, t_max=0.95, sampling=Sampling(1.5))
    own = posterior_floor(teacher, teacher.sample(labels, 1.5), labels, o)
    other = torch.randint(teacher.num_codes, (200, teacher.num_tokens))
    assert own < 0.9 * posterior_floor(teacher, other, labels, o)
