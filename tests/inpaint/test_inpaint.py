"""In-painting: what is kept stays, what is erased is sampled as the samplers would."""

import pytest
import torch

from dd2core import DD2Error, Pipeline
from dd2core.inpaint import erased_tokens, inpaint
from dd2core.teacher import span_index
from tests.support import tiny, tiny_var

LABELS = [0, 2]


@pytest.fixture(scope="module", params=["llamagen", "var"])
def pipe(request):
    return Pipeline(tiny.model() if request.param == "llamagen" else tiny_var.model())


@pytest.fixture
def tokens(pipe):
    source = torch.Generator().manual_seed(7)
    shape = (len(LABELS), pipe.teacher.num_tokens)
    return torch.randint(pipe.teacher.num_codes, shape, generator=source)


def some_erased(pipe):
    """Parts of several steps, not the same in both images."""
    n = pipe.teacher.num_tokens
    erased = torch.zeros(len(LABELS), n, dtype=torch.bool)
    erased[0, n // 3 : n // 2] = True
    erased[1, n // 2 : -1] = True
    return erased


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_tokens_that_are_not_erased_stay_and_the_seed_decides_the_rest(pipe, tokens, share):
    erased, start = some_erased(pipe), round(share * pipe.teacher.num_steps)
    before = tokens.clone()
    made = [inpaint(pipe, tokens, erased, LABELS, seed, start) for seed in (4, 4, 5)]
    assert torch.equal(tokens, before)  # the caller's are left alone
    assert all(torch.equal(m.tokens[~erased], tokens[~erased]) for m in made)
    assert torch.equal(made[0].tokens, made[1].tokens)
    assert not torch.equal(made[0].tokens[erased], made[2].tokens[erased])
    assert torch.equal(made[0].by_teacher | made[0].by_one_step, erased)
    assert (made[0].images == pipe.engine.images(made[0].tokens).numpy()).all()


def test_with_everything_erased_it_is_the_teacher_one_step_or_refinement(pipe, tokens):
    every, steps = torch.ones_like(tokens, dtype=torch.bool), pipe.teacher.num_steps
    for start, expected in (
        (0, pipe.sample_teacher(LABELS, 3)), (steps, pipe.sample_one_step(LABELS, 3)),
        (steps // 2, pipe.refine(LABELS, 3, steps // 2)),
    ):
        made = inpaint(pipe, tokens, every, LABELS, 3, start)
        assert torch.equal(made.tokens, expected.tokens) and made.passes == expected.passes


def test_each_erased_token_is_drawn_given_what_then_stands_before_it(pipe, tokens):
    """One whole forward pass over the result gives every erased token its probabilities again."""
    erased = some_erased(pipe)
    made = inpaint(pipe, tokens, erased, LABELS, 3, top_k=1)  # greedy: the likeliest
    y = torch.tensor(LABELS)
    likeliest = pipe.teacher.log_probs(made.tokens, y, pipe.sampling.cfg).argmax(-1)
    assert torch.equal(made.tokens[erased], likeliest[erased])


def test_only_steps_with_erased_tokens_cost_a_pass(pipe, tokens):
    erased = torch.zeros_like(tokens, dtype=torch.bool)
    touched = [1, pipe.teacher.num_steps - 1]
    for step in touched:
        erased[0, span_index(pipe.teacher.spans[step])] = True
    assert inpaint(pipe, tokens, erased, LABELS, 0).passes == 2
    assert inpaint(pipe, tokens, erased, LABELS, 0, start=2).passes == 2  # one step, then the last
    assert inpaint(pipe, tokens, erased, LABELS, 0, start=pipe.teacher.num_steps).passes == 1


@pytest.mark.parametrize("fault, sentence", [
    ({"erased": "none"}, "Nothing is erased"), ({"start": 99}, "start=99 must lie in"),
    ({"seed": -1}, "seed=-1 must be"), ({"labels": [0]}, "one picture per label"),
    ({"erased": "short"}, "erased must be true or false"), ({"tokens": 10**6}, "must be codes"),
])
def test_wrong_arguments_are_one_sentence(pipe, tokens, fault, sentence):
    erased = some_erased(pipe)
    given = {"tokens": tokens, "erased": erased, "labels": LABELS} | fault
    if fault.get("erased"):
        given["erased"] = erased & False if fault["erased"] == "none" else erased[:, 1:]
    if fault.get("tokens"):
        given["tokens"] = torch.full_like(tokens, 10**6)
    with pytest.raises(DD2Error, match=sentence):
        inpaint(pipe, **given)


def test_a_grid_token_is_erased_with_its_first_pixel_and_coarse_scales_by_half():
    grid = tiny.teacher()  # 4×4 tokens of 4×4 pixels
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, 5, 6] = True
    assert erased_tokens(grid, mask).nonzero().tolist() == [[0, 5]]
    scales = tiny_var.teacher()
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, :, :4] = True  # the left quarter
    erased = erased_tokens(scales, mask)
    for first, stop in scales.spans:
        side = round((stop - first) ** 0.5)
        shown = erased[0, first:stop].reshape(side, side)
        finest = stop == scales.num_tokens
        for column in range(side):
            share = max(0.0, min(1.0, side / 4 - column))
            assert shown[:, column].eq(share > 0 if finest else share >= 0.5).all()


def test_tokens_on_no_grid_and_masks_that_are_none_are_refused():
    class Odd:
        spans, num_tokens = [(i, i + 1) for i in range(5)], 5

    with pytest.raises(DD2Error, match="no square grid"):
        erased_tokens(Odd(), torch.ones(1, 4, 4, dtype=torch.bool))
    with pytest.raises(DD2Error, match="mask must be"):
        erased_tokens(tiny.teacher(), torch.ones(4, 4, dtype=torch.bool))
