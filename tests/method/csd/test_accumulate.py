"""A batch in several passes is the batch in one: the same noise, the same gradients (method §4)."""

import pytest
import torch

from dd2core.csd import CSDOptions, CSDTrainer
from dd2core.gts import ScoreOptions, gts_step_loss
from dd2core.noise import WHOLE, Part, same_draws
from dd2core.score_model import Discriminator
from dd2core.tools.gradients import backward_mean
from tests.support import tiny

B, L, V, C = 8, 16, 32, 4
LABELS = torch.arange(B) % 3
CPU = torch.device("cpu")


def trainer(accumulate: int, **options) -> CSDTrainer:
    """In float64, with plain descent, so that weights tell gradients."""
    teacher = tiny.teacher().double()
    nets = [tiny.score_model(teacher, seed).double() for seed in (1, 2)]
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in nets]
    if "adversarial" not in options:
        return CSDTrainer(teacher, *nets, *optimizers, CSDOptions(accumulate=accumulate, **options))
    judge = Discriminator(teacher.backbone(), C, 16, 2).double()
    torch.nn.init.constant_(judge.head.out.weight, 0.1)
    return CSDTrainer(teacher, *nets, *optimizers, CSDOptions(accumulate=accumulate, **options),
                      discriminator=judge,
                      discriminator_optimizer=torch.optim.SGD(judge.parameters(), 0.1))


def watch(t: CSDTrainer) -> list[torch.Tensor]:
    """What ψ's head is given, filled as it is: x_t and t of each image in a row."""
    seen, denoise = [], t.guidance.denoise

    def watched(x_t, s, h):
        seen.append(torch.cat([a.detach().movedim(0, -1).flatten(1) for a in (x_t, s)], 1))
        return denoise(x_t, s, h)

    t.guidance.denoise = watched
    return seen


def test_parts_are_every_row_once_and_those_of_virtual_ranks():
    batch = torch.arange(24).view(12, 2)
    four = Part(0, 4), Part(1, 4), Part(2, 4), Part(3, 4)
    assert [Part(r, 2).split(2) for r in (0, 1)] == [list(four[:2]), list(four[2:])]
    assert WHOLE.split(4) == list(four) and WHOLE.take(batch) is batch
    assert torch.equal(torch.cat([p.take(batch) for p in four]).sort(0).values, batch)
    assert torch.equal(four[1].take(batch), batch[[1, 5, 9]])
    assert torch.equal(four[1].take(batch.T, 1), batch.T[:, [1, 5, 9]])
    part = four[1].take(batch)
    assert part.untyped_storage().nbytes() == part.nbytes  # the whole batch is not kept alive


def test_all_parts_draw_the_numbers_of_the_whole_and_go_on_after_them():
    torch.manual_seed(3)
    whole, after = torch.rand(8), torch.rand(())
    for passes in (1, 2, 4):
        torch.manual_seed(3)
        parts = WHOLE.split(passes)
        drawn = torch.stack([p.take(torch.rand(8)) for p in same_draws(parts, CPU)])
        assert torch.equal(drawn.T.flatten(), whole) and torch.equal(torch.rand(()), after)


def test_what_a_network_draws_inside_is_its_parts_own_however_the_part_came_about():
    drawn = []
    for part in (*WHOLE.split(4), Part(1, 2).split(2)[0], Part(3, 4)):
        torch.manual_seed(3)
        part.own_draws(5, "dropout", 7)
        drawn.append(torch.rand(()).item())
    assert len(set(drawn[:4])) == 4 and drawn[4:] == drawn[2:4]
    torch.manual_seed(3)
    WHOLE.own_draws(5, "dropout", 7)
    assert torch.initial_seed() == 3  # a batch in one part is drawn as it always was


CASES = [{}, {"form": "sid", "guidance_steps": 2, "fresh": True, "fcs_times": 3},
         {"guidance_steps": 2, "pair_weight": 0.7, "targets": 3, "prefix": "continuous"},
         {"hold": True, "guidance_steps": 2}, {"adversarial": 3.0}]


@pytest.mark.parametrize("case", CASES)
def test_csd_in_passes_has_the_samples_of_one_and_its_gradients(case):
    """Latents, labels, noise and times: bit for bit. Weights after steps: the rounding of a sum."""
    options = {k: v for k, v in case.items() if k not in ("targets", "hold")}
    torch.manual_seed(0)
    known = torch.randint(V, (case["targets"], L)) if "targets" in case else None
    real = (torch.randint(V, (B, L)), LABELS.flip(0)) if "adversarial" in case else None
    ends = {}
    for passes in (1, 2, 4):
        t = trainer(passes, **options)
        seen = watch(t)
        torch.manual_seed(7)
        said = [t.step(torch.randn(B, L, C).double(), LABELS, known, case.get("hold", False),
                       real=real) for _ in range(2)]
        weights = torch.cat([p.detach().flatten() for m in (*t.optimizers, t.ema)
                             for p in m.parameters()])
        ends[passes] = seen, said, weights
    seen, said, weights = ends.pop(1)
    for passes, (parts, numbers, moved) in ends.items():
        # Those of the first update, which no rounding has touched yet.
        assert torch.equal(torch.stack(parts[:passes], 1).flatten(0, 1), seen[0])
        torch.testing.assert_close(moved, weights, rtol=1e-12, atol=1e-12)
        # The entropy of a part's tokens is not the batch's; all others are means over images.
        assert numbers[0].keys() == said[0].keys()
        for a, b in zip(numbers, said, strict=True):
            assert {k: v for k, v in a.items() if k != "entropy"} == pytest.approx(
                {k: v for k, v in b.items() if k != "entropy"}, rel=1e-9)


@pytest.mark.parametrize("head_only", [False, True])
def test_gts_in_passes_has_the_gradient_of_one(head_only):
    teacher = tiny.teacher("table").double()
    tokens, grads = torch.randint(V, (B, L)), []
    for passes in (1, 4):
        model = tiny.score_model(teacher).double()
        torch.manual_seed(5)
        loss = backward_mean(model, (
            gts_step_loss(model, teacher, p.take(tokens), p.take(LABELS), ScoreOptions(), True,
                          head_only, p) for p in same_draws(WHOLE.split(passes), CPU)), passes)
        grads.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(grads[0]) > 9
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)


def test_head_only_computes_the_features_once_for_all_noise_times_and_without_a_graph():
    teacher, calls = tiny.teacher(), []
    model = tiny.score_model(teacher)
    forward = model.backbone.forward
    model.backbone.forward = lambda *a: calls.append(torch.is_grad_enabled()) or forward(*a)
    tokens = torch.randint(V, (B, L))
    gts_step_loss(model, teacher, tokens, LABELS, ScoreOptions(times=5), head_only=True).backward()
    assert calls == [False]
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.head.parameters())


def test_one_graph_is_alive_at_a_time_and_its_last_pass_is_announced():
    t, alive, told = trainer(4, guidance_steps=2), [], []
    t.before_part = lambda network, last: told.append((network is t.generator, last))
    losses = t.losses

    def watched(*a):
        for loss in losses(*a):
            alive.append([m.x.requires_grad for m in a[2]])
            yield loss

    t.losses = watched
    t.step(torch.randn(B, L, C).double(), LABELS)
    assert alive == [[False] * 4] * 12  # what is kept of the four passes has no graph
    assert told == ([(False, False)] * 3 + [(False, True)]) * 2 + [(True, False)] * 3 + [
        (True, True)]
