"""The adversarial term of CSD: who learns from what, and that it pulls G towards the data."""

import pytest
import torch

from dd2core.csd import Batch, CSDOptions, CSDTrainer
from dd2core.errors import DD2Error
from dd2core.losses import adversarial_loss
from dd2core.score_model import Discriminator
from tests.method.test_csd import LABELS, B, C, L, V, adam, changed, snapshot
from tests.support import tiny, tiny_var

REAL = torch.randint(V, (B, L), generator=torch.Generator().manual_seed(9)), LABELS.flip(0)


def new_trainer(lr: float = 1e-3, lr_judge: float = 5e-3, **options) -> CSDTrainer:
    teacher = tiny.teacher()
    nets = tiny.score_model(teacher, 1), tiny.score_model(teacher, 2)
    torch.manual_seed(0)
    judge = Discriminator(teacher.backbone(), C, 16, 2)
    return CSDTrainer(teacher, *nets, *(adam(m, lr) for m in nets),
                      CSDOptions(**{"adversarial": 1.0, **options}),
                      discriminator=judge, discriminator_optimizer=adam(judge, lr_judge))


def shown(t: CSDTrainer):
    """A pass of G with data beside it."""
    return t.generate(Batch(torch.randn(B, L, C), LABELS, real=REAL))


def test_it_begins_undecided_and_its_losses_say_so():
    t = new_trainer()
    made = shown(t)
    assert t.tell_apart(made).item() == pytest.approx(2 * torch.tensor(2.0).log().item())
    assert made.numbers["told_apart"] == 0.5
    assert t.deceive(t.discriminator, made).item() == pytest.approx(torch.tensor(2.0).log().item())


def test_each_network_learns_from_its_own_loss_alone():
    t = new_trainer()
    made = shown(t)
    t.tell_apart(made).backward()
    assert all(p.grad is None for m in (t.generator, t.guidance, t.teacher)
               for p in m.parameters())
    assert t.discriminator.head.out.weight.grad.abs().sum() > 0
    t = new_trainer()
    with torch.no_grad():
        t.discriminator.head.out.weight.normal_()
    t.deceive(t.discriminator, shown(t)).backward()
    assert all(p.grad is None for m in (t.discriminator, t.guidance, t.teacher)
               for p in m.parameters())
    assert all(p.grad is not None for p in t.generator.parameters())
    assert all(p.requires_grad for p in t.discriminator.parameters())  # trainable again


def test_the_discriminator_is_shown_codes_and_its_gradient_goes_straight_through(monkeypatch):
    t, seen = new_trainer(), []
    with torch.no_grad():
        t.discriminator.head.out.weight.normal_()
    made = shown(t)
    monkeypatch.setattr(t, "_noised", lambda x, made: seen.append(x) or (
        x, torch.full((len(x), 1, 1), 0.5)))
    grad, = torch.autograd.grad(t.deceive(t.discriminator, made), made.x)
    codes = t.teacher.vectors(made.tokens).requires_grad_()
    torch.testing.assert_close(seen[0], codes)
    logits = t.discriminator(codes, torch.full((B, 1, 1), 0.5), made.labels)
    expected, = torch.autograd.grad(adversarial_loss(logits), codes)
    torch.testing.assert_close(grad, expected)
    t.tell_apart(made)
    torch.testing.assert_close(seen[1], t.teacher.vectors(REAL[0]))
    torch.testing.assert_close(seen[2], codes)


def test_what_it_is_shown_is_noised_at_one_time_per_image_of_its_range():
    t = new_trainer(t_min=0.3, adversarial_t_max=0.4)
    made = shown(t)
    x = t.teacher.vectors(made.tokens)
    x_t, s = t._noised(x, made)
    assert s.shape == (B, 1, 1) and 0.3 <= s.min() < s.max() <= 0.4
    rest = (x_t - (1 - s) * x) / s
    assert 0.8 < rest.std() < 1.2


def test_a_step_moves_it_and_reports_it_and_on_hold_it_stands_still():
    t = new_trainer()
    before = snapshot(t.discriminator)
    m = t.step(torch.randn(B, L, C), LABELS, hold=True, real=REAL)
    assert not changed(t.discriminator, before) and "told_apart" not in m
    m = t.step(torch.randn(B, L, C), LABELS, real=REAL)
    assert changed(t.discriminator, before) and m["told_apart"] == 0.5 and m["adversarial"] > 0.6
    t.adversarial = 0.0  # G does not feel it yet
    moved = snapshot(t.discriminator)
    m = t.step(torch.randn(B, L, C), LABELS, real=REAL)
    assert changed(t.discriminator, moved) and "adversarial" not in m and "told_apart" in m


def test_it_needs_data_to_compare_with():
    with pytest.raises(DD2Error, match="needs tokens of data"):
        new_trainer().step(torch.randn(B, L, C), LABELS)


def test_samples_unlike_the_data_are_told_apart_and_drawn_towards_it():
    """The data is one code in all places: G's tokens become it; without the term they do not."""
    n, share, told = 32, {}, {}
    labels = LABELS.repeat(n // len(LABELS))
    real = torch.full((n, L), 5), labels
    for weight in (0.0, 30.0):
        t = new_trainer(lr=2e-3, lr_judge=1e-2, adversarial=weight, adversarial_t_max=0.2)
        torch.manual_seed(1)
        told[weight] = [t.step(torch.randn(n, L, C), labels, real=real)["told_apart"]
                        for _ in range(40)]
        tokens = t.teacher.quantise(t.generator.generate(torch.randn(n, L, C), labels))
        share[weight] = (tokens == 5).float().mean().item()
    assert told[0.0][0] == 0.5 and told[0.0][-1] > 0.9 > told[30.0][-1]
    assert share[30.0] > 0.5 > 0.2 > share[0.0]


def test_it_keeps_the_first_blocks_and_is_a_network_of_its_own():
    teacher = tiny.teacher(depth=3)
    backbone = teacher.backbone()
    blocks = list(backbone.blocks)
    judge = Discriminator(backbone, C, 16, 2, blocks=2)
    assert list(judge.backbone.blocks) == blocks[:2]
    own = {p.data_ptr() for p in judge.parameters()}
    assert not own & {p.data_ptr() for p in teacher.parameters()}


@pytest.mark.parametrize("family", [tiny.teacher, tiny_var.teacher])
@pytest.mark.parametrize("bf16", [False, True])
def test_it_has_a_logit_for_every_token_of_both_families(family, bf16):
    teacher = family()
    judge = Discriminator(teacher.backbone(), teacher.code_dim, 16, 2, bf16)
    torch.nn.init.normal_(judge.head.out.weight)
    x = torch.randn(B, teacher.num_tokens, teacher.code_dim)
    logits = judge(x, torch.full((B, 1, 1), 0.3), LABELS)
    assert logits.shape == x.shape[:2] and logits.dtype == torch.float32 and logits.std() > 0
    x[:, -1] += 1  # the last token is seen by its own logit alone
    other = judge(x, torch.full((B, 1, 1), 0.3), LABELS)
    assert torch.equal(other[:, :-1], logits[:, :-1])
    assert not torch.equal(other[:, -1], logits[:, -1])
