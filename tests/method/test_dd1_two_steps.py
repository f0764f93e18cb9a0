"""DD1's second step: what it keeps, what it is made from, and what its loss counts."""

from types import SimpleNamespace

import pytest
import torch

from dd2core import baselines
from dd2core.baselines import dd1_loss, dd1_two_steps, first_part, second_input, second_weight
from dd2core.errors import DD2Error
from tests.support import tiny, tiny_var
from tests.support.train_helpers import config
from train import dd1 as dd1_stage
from train.dd1 import DD1Job

B = 3
LABELS = torch.tensor([0, 1, 2])
FAMILIES = {"raster": tiny, "var": tiny_var}


@pytest.fixture(scope="module", params=FAMILIES)
def nets(request):
    """A teacher, and a generator whose prefix matters."""
    family = FAMILIES[request.param]
    teacher = family.teacher()
    model = family.score_model(teacher, 1).requires_grad_(False).eval()
    return teacher, model


def latents(teacher, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(B, teacher.num_tokens, teacher.code_dim, generator=source)


# Which tokens are kept ------------------------------------------------------------------------

def test_the_first_part_is_half_of_the_teachers_steps_unless_it_is_named():
    raster, var = tiny.teacher(), tiny_var.teacher()  # 16 tokens; scales of 1, 4 and 16
    assert first_part(raster).tolist() == [True] * 8 + [False] * 8
    assert first_part(var).tolist() == [True] + [False] * 20
    assert first_part(raster, 15).tolist() == [True] * 15 + [False]
    assert first_part(var, 2).tolist() == [True] * 5 + [False] * 16


def test_the_first_part_follows_the_order_of_the_teacher():
    spans = [torch.tensor([3, 1]), torch.tensor([0]), torch.tensor([2]), torch.tensor([4])]
    teacher = SimpleNamespace(spans=spans, num_steps=4, num_tokens=5, device=torch.device("cpu"))
    assert first_part(teacher).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("start", [-1, 0, 16, 17])
def test_a_second_step_that_keeps_nothing_or_all_is_refused(start):
    with pytest.raises(DD2Error, match=rf"^second_start={start} must lie in 1…15: .*\.$"):
        first_part(tiny.teacher(), start)


# Sampling -------------------------------------------------------------------------------------

@pytest.mark.parametrize("start", [None, 1, 2])
def test_the_first_part_is_that_of_one_step_and_the_rest_is_made_from_it(nets, start):
    """Token by token: the rest is what the network gives for code vectors, then noise."""
    teacher, model = nets
    eps, kept = latents(teacher), first_part(teacher, start)
    one = teacher.quantise(model.generate(eps, LABELS))
    two = dd1_two_steps(teacher, model, LABELS, eps, start)
    assert torch.equal(two[:, kept], one[:, kept])
    assert not torch.equal(two[:, ~kept], one[:, ~kept])
    mixed = torch.cat([teacher.codebook[one[:, kept]], eps[:, ~kept]], 1)  # kept ones come first
    assert torch.equal(two[:, ~kept], teacher.quantise(model.generate(mixed, LABELS))[:, ~kept])


def test_the_rest_depends_on_the_kept_tokens_and_its_own_noise_alone(nets, monkeypatch):
    """Other noise of the kept part changes nothing, if it gives the same tokens there."""
    teacher, model = nets
    eps, other, kept = latents(teacher), latents(teacher, 1), first_part(teacher)
    two = dd1_two_steps(teacher, model, LABELS, eps)

    def rest(tokens, noise):
        """The second step alone: whatever the first pass was, it gave these tokens."""
        first, generate = [teacher.codebook[tokens]], model.generate
        with monkeypatch.context() as patch:
            patch.setattr(model, "generate", lambda *a: first.pop() if first else generate(*a))
            return dd1_two_steps(teacher, model, LABELS, noise)[:, ~kept]

    assert torch.equal(rest(two, eps), two[:, ~kept])
    assert torch.equal(rest(two, torch.where(kept[:, None], other, eps)), two[:, ~kept])
    assert not torch.equal(rest(two, torch.where(kept[:, None], eps, other)), two[:, ~kept])
    assert not torch.equal(rest((two + 1) % teacher.num_codes, eps), two[:, ~kept])
    later = torch.where(kept, two, (two + 1) % teacher.num_codes)
    assert torch.equal(rest(later, eps), two[:, ~kept])  # what the first pass made there is dropped


def test_two_steps_are_two_passes_and_draw_nothing(nets, monkeypatch):
    teacher, model = nets
    calls, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda *a: calls.append(a) or generate(*a))
    eps, state = latents(teacher), torch.get_rng_state()
    tokens = dd1_two_steps(teacher, model, LABELS, eps)
    assert len(calls) == 2 and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(dd1_two_steps(teacher, model, LABELS[:1], eps[:1]), tokens[:1])


# Training -------------------------------------------------------------------------------------

def test_the_loss_counts_the_tokens_after_the_kept_ones_and_each_image_as_one():
    teacher = tiny.teacher()
    x, tokens = latents(teacher).requires_grad_(True), torch.randint(32, (B, 16))
    kept = torch.zeros(B, 16, dtype=torch.bool)
    kept[1, :12] = True
    loss = dd1_loss(x, tokens, teacher.codebook, 3.0, 0.5, second_weight(kept))
    each = [dd1_loss(x[i : i + 1, a:], tokens[i : i + 1, a:], teacher.codebook, 3.0, 0.5)
            for i, a in enumerate((0, 12, 0))]
    torch.testing.assert_close(loss, sum(each) / B)
    gradient, = torch.autograd.grad(loss, x)
    assert (gradient[kept] == 0).all() and (gradient[~kept] != 0).any(-1).all()
    whole = dd1_loss(x, tokens, teacher.codebook, 3.0, 0.5, second_weight(kept[:1].expand(B, -1)))
    torch.testing.assert_close(whole, dd1_loss(x, tokens, teacher.codebook, 3.0, 0.5))


def job(monkeypatch, *words: str) -> DD1Job:
    """The job of the stage dd1 on random pairs, with a random network in place of a file."""
    teacher = tiny.teacher()
    monkeypatch.setattr(dd1_stage, "load_generator",
                        lambda cfg, teacher, path, bf16: tiny.score_model(teacher, 1))
    cfg = config("dd1.pairs=10", "dd1.pair_batch=4", "dd1.batch=8", *words)
    source = torch.Generator().manual_seed(0)
    pairs = {"labels": torch.arange(10) % 3,
             "tokens": torch.randint(32, (10, 16), generator=source)}
    return DD1Job(cfg, teacher, pairs, cfg.dd1)


@pytest.mark.parametrize(("share", "start", "second", "first"),
                         [(0.4, "null", 3, 8), (1.0, "5", 8, 5), (0.5, "15", 4, 15)])
def test_a_share_of_each_batch_has_its_own_tokens_first_and_its_noise_after(
    monkeypatch, share, start, second, first
):
    j, seen = job(monkeypatch, f"dd1.second_share={share}", f"dd1.second_start={start}"), []
    generate, loss = j.model.generate, dd1_stage.dd1_loss
    monkeypatch.setattr(j.model, "generate", lambda *a: seen.append(a) or generate(*a))
    monkeypatch.setattr(dd1_stage, "dd1_loss", lambda *a: seen.append(a) or loss(*a))
    j.step(0)
    (given, _), (_, tokens, codebook, _, _, weight) = seen
    rows = [next(k for k, eps in enumerate(j.eps) if torch.equal(eps[-1], a[-1])) for a in given]
    assert torch.equal(tokens, j.pairs["tokens"][rows])
    assert torch.equal(given[second:], j.eps[rows[second:]])
    assert torch.equal(given[:second, :first], codebook[tokens[:second, :first]])
    assert torch.equal(given[:second, first:], j.eps[rows[:second], first:])
    assert (weight[:second, :first] == 0).all() and (weight[second:] == 1).all()
    torch.testing.assert_close(weight.mean(-1), torch.ones(8))


def test_right_tokens_are_counted_where_the_loss_counts(monkeypatch):
    j = job(monkeypatch, "dd1.second_share=1", "dd1.second_start=12")
    j.pairs["tokens"][:] = 5
    found = torch.full((8, 16), 6)
    found[:, :12] = 5  # right in the kept part, wrong after it
    found[:2, 12:14] = 5  # but for half of that, in a quarter of the images
    monkeypatch.setattr(j.teacher, "quantise", lambda x: found)
    assert j.step(0)["right_tokens"] == pytest.approx(0.125)


def test_without_a_share_nothing_is_changed(monkeypatch):
    """Neither what goes in nor the loss, bit for bit: as they stood before there was one."""
    j, seen = job(monkeypatch, "dd1.sharpness=2.5"), []
    assert j.opts.second_share == 0 and j.opts.second_start is None
    before, loss = job(monkeypatch, "dd1.sharpness=2.5"), dd1_stage.dd1_loss
    for name in ("first_part", "second_input", "second_weight"):
        monkeypatch.setattr(dd1_stage, name, None)
    monkeypatch.setattr(dd1_stage, "dd1_loss", lambda *a: seen.append(a) or loss(*a))
    ours = [j.step(i) for i in range(3)]
    assert all(len(a) == 5 for a in seen)

    def plain(i, part, right):
        pick = dd1_stage.batch_indices(10, 8, i, before.cfg.seed)
        x = before.model.generate(before.eps[pick], before.pairs["labels"][pick])
        tokens, codebook = before.pairs["tokens"][pick], before.teacher.codebook
        right.append((before.teacher.quantise(x.detach()) == tokens).float().mean())
        with baselines.full_precision(x.device):
            logits = 2.5 * (x @ codebook.T - 0.5 * codebook.square().sum(-1))
        entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        return entropy + 1.0 * (x - codebook[tokens]).square().sum(-1).mean()

    monkeypatch.setattr(before, "loss", plain)
    assert ours == [before.step(i) for i in range(3)]
    for a, b in zip(j.model.parameters(), before.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_share_of_no_image_is_refused(monkeypatch):
    with pytest.raises(DD2Error, match=r"second_share=0\.05 of batch=8 is no image"):
        job(monkeypatch, "dd1.second_share=0.05")


def test_the_second_step_is_learnt():
    """A teacher whose later tokens repeat the first one: the kept token alone tells them."""
    teacher = tiny.teacher()
    model, source = tiny.score_model(teacher, 1), torch.Generator().manual_seed(0)
    labels, kept = torch.zeros(32, dtype=torch.int64), first_part(teacher, 1).expand(32, -1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def draw():
        tokens = torch.randint(4, (32, 1), generator=source).expand(-1, 16)
        return tokens, torch.randn(32, 16, 4, generator=source)

    for _ in range(150):
        tokens, eps = draw()
        x = model.generate(second_input(teacher, eps, tokens, kept), labels)
        loss = dd1_loss(x, tokens, teacher.codebook, weight=second_weight(kept))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens, eps = draw()
    made = teacher.quantise(model.generate(second_input(teacher, eps, tokens, kept), labels))
    assert (made == tokens)[:, 1:].float().mean() > 0.9  # 0.25 by chance
