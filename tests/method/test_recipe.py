"""The points of the paper's recipe that are options of the same classes (method §4)."""

import pytest
import torch

from dd2core.csd import CSDOptions, CSDTrainer
from dd2core.ema import EMA, ema_weight
from dd2core.errors import DD2Error
from dd2core.gts import ScoreOptions
from dd2core.losses import fcs_loss
from dd2core.schedule import add_noise, find_loss_weight
from dd2core.score_model import ConditionalScoreModel
from tests.support import tiny

B, L, C = 4, 16, 4
LABELS = torch.tensor([0, 1, 2, 0])


def new_trainer(**options) -> CSDTrainer:
    teacher = tiny.teacher()
    nets = [tiny.score_model(teacher, seed) for seed in (1, 2)]
    optimizers = [torch.optim.Adam(m.parameters(), 1e-2) for m in nets]
    torch.manual_seed(0)
    return CSDTrainer(teacher, *nets, *optimizers, CSDOptions(**options))


def weights(module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(module, before) -> bool:
    return all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def model(prediction: str, t_init: float = 1.0) -> ConditionalScoreModel:
    teacher = tiny.teacher()
    torch.manual_seed(3)
    return ConditionalScoreModel(teacher.backbone(), C, 16, 2, t_init, prediction=prediction)


# Velocity ------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_velocity_head_gives_v_and_the_generator_noise_minus_v_at_t_1(monkeypatch):
    m = model("velocity")
    torch.nn.init.normal_(m.head.out.weight, std=0.3)
    eps = torch.randn(B, L, C)
    h, one = m.features(eps, LABELS), torch.ones(1, 1, 1)
    v = m.head(eps, one, h)
    torch.testing.assert_close(m.generate(eps, LABELS), eps - v)
    x_t, t = torch.randn(2, B, L, C), torch.rand(2, B, L, 1)
    torch.testing.assert_close(m.denoise(x_t, t, h), x_t - t * m.head(x_t, t, h))


@torch.no_grad()
def test_at_t_1_both_predictions_are_one_function_up_to_the_sign_of_the_head():
    """F = ε − v: a head that gives ε − F in place of F makes the same generator."""
    ours, paper, eps = model("denoised"), model("velocity"), torch.randn(B, L, C)
    torch.nn.init.normal_(ours.head.out.weight, std=0.3)
    head = ours.head
    paper.head.forward = lambda x, t, h: x - head(x, t, h)
    assert ours.generate(eps, LABELS).std() > 0.1
    torch.testing.assert_close(paper.generate(eps, LABELS), ours.generate(eps, LABELS))


def test_the_velocity_weight_makes_the_error_of_d_that_of_v():
    x, eps = torch.randn(B, L, C).double(), torch.randn(2, B, L, C).double()
    t = torch.rand(2, B, L, 1).double().clamp_min(0.1)
    x_t = add_noise(x, eps, t)
    v = torch.randn_like(x_t)  # a prediction of ε − x
    loss = fcs_loss(lambda x_t, t: x_t - t * v, x, eps, t, find_loss_weight("velocity"))
    torch.testing.assert_close(loss, (v - (eps - x)).square().sum(-1).mean())
    assert x_t.isfinite().all()


@pytest.mark.parametrize("make, said", [
    (lambda: model("noise"), "prediction=noise is unknown: use denoised or velocity"),
    (lambda: CSDOptions(prefix="raw"), "prefix=raw is unknown: use quantised or continuous"),
    (lambda: CSDOptions(form="kl"), "form=kl is unknown"),
    (lambda: ScoreOptions(weighting="snr"), "weighting=snr is unknown: use preconditioned or"),
    (lambda: CSDOptions(weighting="snr"), "weighting=snr is unknown"),
])
def test_an_unknown_choice_lists_the_known(make, said):
    with pytest.raises(DD2Error, match=said):
        make()


# Steps of ψ ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [False, True])
def test_each_of_r_steps_of_the_guidance_network_has_its_own_samples_if_fresh(fresh):
    t, seen = new_trainer(guidance_steps=3, fresh=fresh), []
    fcs, csd = t.fcs, t.csd
    t.fcs = lambda made: seen.append(made) or fcs(made)
    t.csd = lambda made: seen.append(made) or csd(made)
    numbers = t.step(torch.randn(B, L, C), LABELS)
    assert len(seen) == 4 and numbers["fcs"] > 0
    if not fresh:
        assert all(made is seen[-1] for made in seen)
        return
    outputs = {tuple(made.x.flatten().tolist()) for made in seen}
    assert len(outputs) == 4  # three of ψ's own, and G's
    assert not any(made.x.requires_grad for made in seen[:3]) and seen[-1].x.requires_grad
    assert all(sorted(made.labels.tolist()) == sorted(LABELS.tolist()) for made in seen)


@pytest.mark.parametrize("prefix", ["quantised", "continuous"])
def test_the_guidance_network_sees_the_prefix_that_is_asked_for(prefix):
    t, seen = new_trainer(prefix=prefix), []
    features = t.guidance.features
    t.guidance.features = lambda p, y: seen.append(p) or features(p, y)
    t.step(torch.randn(B, L, C), LABELS)
    assert len(seen) == 2 and all(p.is_floating_point() == (prefix == "continuous") for p in seen)
    assert not any(p.requires_grad for p in seen)


def test_fcs_has_its_own_count_of_noise_times():
    t, counts = new_trainer(times=2, fcs_times=5), []
    denoise = t.guidance.denoise
    t.guidance.denoise = lambda x_t, *a: counts.append(len(x_t)) or denoise(x_t, *a)
    t.step(torch.randn(B, L, C), LABELS)
    assert counts == [5, 2]  # FCS, then CSD


# Alignment and average -----------------------------------------------------------------------


def test_on_hold_the_guidance_network_alone_moves():
    t = new_trainer(guidance_steps=2)
    t.step(torch.randn(B, L, C), LABELS)
    before = [weights(m) for m in (t.generator, t.guidance, t.ema)]
    for p in t.generator.parameters():
        p.grad = None
    numbers = t.step(torch.randn(B, L, C), LABELS, hold=True)
    assert same(t.generator, before[0]) and same(t.ema, before[2]) and t.ema.updates == 1
    assert not same(t.guidance, before[1])
    assert all(p.grad is None for p in t.generator.parameters())  # no backward of G at all
    assert numbers["grad_g"] == 0.0 and numbers["fcs"] > 0 and "csd" not in numbers


def test_alignment_puts_the_average_into_the_generator_and_forgets_its_moments():
    t = new_trainer(ema=0.9)
    for _ in range(3):
        t.step(torch.randn(B, L, C), LABELS)
    average = weights(t.ema.module)
    assert not same(t.generator, average)
    t.align()
    assert same(t.generator, average) and same(t.ema.module, average)
    assert not t.optimizers[t.generator].state and t.optimizers[t.guidance].state


def test_the_average_has_a_short_memory_first_and_then_counts_anew():
    assert [ema_weight(n, 0.9999, 9.0, 3, 0.5) for n in (0, 2)] == [0.5, 0.5]
    assert [ema_weight(n, 0.9999, 9.0, 3, 0.5) for n in (3, 4, 13)] == [
        pytest.approx(w) for w in (1 / 10, 2 / 11, 11 / 20)]
    assert ema_weight(10**6, 0.9999, 9.0, 3, 0.5) == 0.9999
    source = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(source, 0.9999, first=2, first_decay=0.25)
    start, values = source.weight.item(), []
    for value in (8.0, 4.0):
        source.weight.data.fill_(value)
        ema.update(source)
        values.append(ema.module.weight.item())
    assert values == pytest.approx([0.25 * start + 6, 0.25 * (0.25 * start + 6) + 3])


def test_the_options_of_the_average_reach_it():
    ema = new_trainer(ema=0.97, ema_warmup=4.0, ema_first=7, ema_first_decay=0.3).ema
    assert (ema.decay, ema.warmup, ema.first, ema.first_decay) == (0.97, 4.0, 7, 0.3)
