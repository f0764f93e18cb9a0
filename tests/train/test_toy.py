"""The toys' truth is exact, and so is the yardstick; what was trained is in docs/results.md."""

import itertools
import json

import pytest
import torch

from dd2core.baselines import euler_sample, parallel_sample
from dd2core.sampling import Sampling
from tests.support.train_helpers import cli
from train.results import toy
from train.toys.field import FieldTeacher, markov_field, pair
from train.toys.study import METHODS, total_variation

JOINTS = pytest.mark.parametrize("joint", [pair(), markov_field()], ids=["pair", "field"])


@JOINTS
def test_the_teachers_conditionals_multiply_to_the_joint(joint):
    teacher, v, n = FieldTeacher(joint), joint.shape[0], joint.ndim
    every = torch.tensor(list(itertools.product(range(v), repeat=n)))
    labels = torch.zeros(len(every), dtype=torch.int64)
    log_p = teacher.log_probs(every, labels).gather(-1, every[..., None]).sum((1, 2))
    torch.testing.assert_close(log_p.exp(), joint.flatten(), atol=1e-6, rtol=1e-4)


@JOINTS
def test_tokens_drawn_alone_have_the_right_marginals(joint):
    teacher = FieldTeacher(joint)
    alone = teacher.blank_logits(torch.zeros(1, dtype=torch.int64))[0].softmax(-1)
    for i in range(joint.ndim):
        others = [j for j in range(joint.ndim) if j != i]
        torch.testing.assert_close(alone[i], joint.sum(others), atol=1e-6, rtol=1e-4)


def test_neighbours_in_the_field_are_more_often_equal_than_others():
    joint, n = markov_field(), 2
    equal = torch.zeros(4, 4)
    for q in itertools.product(range(3), repeat=n * n):
        for a, b in itertools.combinations(range(4), 2):
            equal[a, b] += joint[q] * (q[a] == q[b])
    assert joint.sum() == pytest.approx(1, abs=1e-5)
    assert min(equal[0, 1], equal[0, 2], equal[1, 3], equal[2, 3]) > max(equal[0, 3], equal[1, 2])


def test_total_variation_is_0_for_the_joint_and_a_half_for_independent_pairs():
    exact = torch.tensor([[0, 0], [1, 1]]).repeat(50, 1)
    assert total_variation(exact, pair()) == 0
    independent = torch.tensor(list(itertools.product((0, 1), repeat=2)))
    assert total_variation(independent, pair()) == 0.5
    assert total_variation(torch.tensor([[0, 1]]), pair()) == 1
    teacher, n = FieldTeacher(pair()), 4000
    labels, noise = torch.zeros(n, dtype=torch.int64), torch.rand(n, 2)
    assert total_variation(teacher.sample(labels, noise=noise), pair()) < 0.05
    assert total_variation(parallel_sample(teacher, labels, noise, Sampling()), pair()) > 0.45


class Exact:
    """The teacher's own score as a score model."""

    def __init__(self, teacher):
        self.teacher = teacher

    def features(self, tokens, labels):
        return self.teacher.logits(tokens, labels)  # (B, L, V)

    def denoise(self, x, t, h):
        from dd2core.score import posterior_mean

        return posterior_mean(x, t, h.log_softmax(-1), self.teacher.codebook)


@pytest.mark.parametrize("steps", [10, 40])
def test_ar_diffusion_by_an_exact_score_paints_the_joint(steps):
    torch.manual_seed(0)
    joint, n = markov_field(), 6000
    teacher, labels = FieldTeacher(joint), torch.zeros(n, dtype=torch.int64)
    tokens = euler_sample(teacher, Exact(teacher), labels, torch.randn(n, 4, 2), steps)
    # Independent tokens are at 0.45, as many true draws at about 0.03.
    assert total_variation(tokens, joint) < 0.12


def test_the_command_writes_what_the_page_reads(tmp_path):
    out = tmp_path / "toy.json"
    words = ("seeds=2", "gts=2", "distil=2", "samples=300", f"out={out}")
    assert cli("toy", *words) is None
    found = json.loads(out.read_text())
    assert found["seeds"] == 2 and found["command"].startswith("python -m train.toy seeds=2")
    for seeds in found["toys"].values():
        assert len(seeds) == 2 and all(0 <= seed[m] <= 1 for seed in seeds for m in METHODS)
    shown = toy.table(out)
    assert "DD2, one step, SiD form" in shown and "2 seeds, 300 samples" in shown
    assert cli("toy", "seeds=0") == "error: seeds, gts, distil and samples must be at least 1."
