"""The patch discriminator: what a verdict sees, hinge, R1, spectral norm."""

import pytest
import torch
from torch import nn

from dd2core.errors import DD2Error
from tests.support.train_helpers import config
from train.tokenizers.adversary import R1_EVERY, Adversary
from train.tokenizers.discriminator import (
    PatchDiscriminator,
    generator_loss,
    hinge_loss,
    r1_penalty,
    smallest_image,
)

CPU = torch.device("cpu")


def adversary(*words) -> Adversary:
    return Adversary(config("tokenizer.adversarial=0.5", *words), CPU)


@pytest.mark.parametrize("levels, patch", [(1, 16), (2, 34), (3, 70)])
def test_a_verdict_sees_a_patch(levels, patch):
    net = PatchDiscriminator(1, 4, levels, "spectral")
    x = torch.randn(1, 1, 96, 96).requires_grad_()
    verdicts = net(x)
    middle = verdicts.shape[-1] // 2
    (slope,) = torch.autograd.grad(verdicts[0, 0, middle, middle], x)
    rows = slope[0, 0].abs().sum(1).nonzero()[:, 0]
    assert verdicts.shape[:2] == (1, 1) and len(rows) == rows[-1] - rows[0] + 1 == patch


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_smallest_image_has_a_verdict_and_a_smaller_one_is_refused(levels):
    side = smallest_image(levels)
    assert PatchDiscriminator(3, 4, levels, "group")(torch.zeros(1, 3, side, side)).numel() >= 1
    with pytest.raises(DD2Error, match=f"disc_levels={levels} needs images of at least {side}"):
        adversary(f"tokenizer.disc_levels={levels}", f"image_size={side - 1}")


def test_the_hinge_pushes_verdicts_beyond_1_and_no_further():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.0])
    assert hinge_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 0.5))
    assert generator_loss(fake).item() == 1.5
    real.requires_grad_()
    hinge_loss(real, fake).backward()
    assert real.grad.tolist() == [-0.25, 0.0]


def test_r1_is_the_squared_slope_at_the_originals():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    x = torch.randn(5, 1, 4, 4)
    loss = r1_penalty(net, x)
    weight = net[1].weight
    assert loss.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_spectral_norm_bounds_every_convolution():
    a = adversary("tokenizer.disc_norm=spectral", "tokenizer.lr_discriminator=0.05")
    x = torch.rand(8, 1, 16, 16)
    for i in range(30):
        a.update(i, x, -x)
    convs = [m for m in a.model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 4
    assert all(torch.linalg.matrix_norm(c.weight.flatten(1), 2) < 1.1 for c in convs)
    with pytest.raises(DD2Error, match="disc_norm=batch is unknown"):
        config("tokenizer.disc_norm=batch")


def test_it_learns_to_tell_and_its_push_makes_fakes_more_real():
    torch.manual_seed(3)
    a, x = adversary("tokenizer.lr_discriminator=0.005"), torch.rand(8, 1, 16, 16)
    fake = torch.zeros_like(x)
    for i in range(1, 30):
        found = a.update(i, x, fake)
    assert found["d_loss"] < 0.5 and found["d_real"] > 0.3 > -0.3 > found["d_fake"]
    leaf = fake.clone().requires_grad_()
    push = a.push(leaf)
    assert a.model(fake - 0.1 * push / push.abs().max()).mean() > a.model(fake).mean()
    assert all(p.grad is not None for p in a.model.parameters())


@pytest.mark.parametrize("own, rate", [("null", 0.01), ("0.003", 0.003)])
def test_it_has_a_learning_rate_of_its_own(own, rate):
    a = adversary("tokenizer.lr=0.01", "tokenizer.warmup=1", f"tokenizer.lr_discriminator={own}")
    x = torch.rand(4, 1, 16, 16)
    a.update(0, x, -x)
    assert {g["lr"] for g in a.optimizer.param_groups} == {rate}


def test_the_penalty_comes_every_so_many_steps_at_so_many_times_its_weight(monkeypatch):
    seen = []
    monkeypatch.setattr("train.tokenizers.adversary.r1_penalty",
                        lambda net, x: seen.append(1) or r1_penalty(net, x))
    a, x = adversary("tokenizer.r1=1"), torch.rand(4, 1, 16, 16)
    for i in range(2 * R1_EVERY):
        a.update(i, x, -x)
    assert len(seen) == 2
    b = adversary()
    for i in range(2 * R1_EVERY):
        b.update(i, x, -x)
    assert len(seen) == 2


def test_its_weight_rises_from_its_first_step_on():
    a = adversary("tokenizer.adversarial_from=3", "tokenizer.warmup=4")
    assert [a.at_work(i) for i in (2, 3)] == [False, True]
    assert [a.weight(i) for i in (3, 4, 6, 9)] == [0.125, 0.25, 0.5, 0.5]
