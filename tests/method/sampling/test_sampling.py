"""From logits to tokens: filters, inversion of the CDF, seeds (method §10)."""

import dataclasses

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.noise import gaussians, uniforms
from dd2core.sampling import Sampling, filter_logits, invert_cdf

V = 12


def kept(log_p):
    return log_p > float("-inf")


@pytest.mark.parametrize("settings", [{}, {"top_k": 0}, {"top_k": V}, {"top_k": V + 5},
                                      {"top_p": 1.0}])
def test_without_a_filter_it_is_log_softmax(settings):
    logits = torch.randn(5, V, dtype=torch.float64)
    torch.testing.assert_close(filter_logits(logits, **settings), logits.log_softmax(-1))


@pytest.mark.parametrize("settings", [
    {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 2, "top_k": 5, "top_p": 0.5}
])
def test_what_is_kept_is_normalised_and_keeps_its_ratios(settings):
    logits = torch.randn(50, V, dtype=torch.float64)
    log_p = filter_logits(logits, **settings)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(50, dtype=torch.float64))
    shift = (log_p - logits / settings.get("temperature", 1)).masked_fill(~kept(log_p), 0)
    same = shift.sum(-1, keepdim=True) / kept(log_p).sum(-1, keepdim=True)
    torch.testing.assert_close(shift, same.where(kept(log_p), 0 * same))


@pytest.mark.parametrize("k", [1, 2, 5, V - 1])
@pytest.mark.parametrize("logits", [torch.randn(40, V), torch.zeros(40, V)], ids=["random", "ties"])
def test_top_k_keeps_exactly_k_and_the_likeliest(k, logits):
    mask = kept(filter_logits(logits, top_k=k))
    assert (mask.sum(-1) == k).all()
    lowest_kept = logits.masked_fill(~mask, float("inf")).amin(-1)
    assert (lowest_kept >= logits.masked_fill(mask, float("-inf")).amax(-1)).all()


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p):
    logits = 2 * torch.randn(60, V, dtype=torch.float64)
    p = logits.softmax(-1)
    mask = kept(filter_logits(logits, top_p=top_p))
    inside = p.masked_fill(~mask, 0).sum(-1)
    smallest = p.masked_fill(~mask, 2).amin(-1)
    assert (inside >= top_p - 1e-12).all()
    assert (inside - smallest < top_p).all()  # one code fewer would not reach it
    assert (smallest >= p.masked_fill(mask, 0).amax(-1)).all()


def test_a_set_that_reaches_top_p_exactly_is_enough():
    assert kept(filter_logits(torch.zeros(4), top_p=0.5)).sum() == 2


def test_top_k_comes_before_top_p():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    # Of the two likeliest, 4/7 and 3/7, the first alone reaches one half.
    assert kept(filter_logits(logits, top_k=2, top_p=0.5)).tolist() == [True] + [False] * 3


def test_half_precision_logits_are_normalised_in_float32():
    logits = torch.randn(3, V).bfloat16()
    log_p = filter_logits(logits, top_p=0.9)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p, filter_logits(logits.float(), top_p=0.9))


@pytest.mark.parametrize("settings", [
    {"temperature": 0}, {"temperature": -1}, {"temperature": float("nan")},
    {"temperature": float("inf")}, {"top_k": -1}, {"top_k": 1.5}, {"top_k": float("nan")},
    {"top_k": float("inf")}, {"top_p": 0}, {"top_p": -0.1}, {"top_p": 1.1},
    {"top_p": float("nan")},
], ids=str)
def test_a_setting_out_of_its_range_is_one_sentence(settings):
    with pytest.raises(DD2Error, match=next(iter(settings))) as error:
        filter_logits(torch.zeros(V), **settings)
    assert "\n" not in str(error.value)


def test_invert_cdf_gives_each_code_its_probability():
    log_p = (1.5 * torch.randn(V)).log_softmax(-1)
    log_p[[0, 5, V - 1]] = float("-inf")
    log_p = log_p.log_softmax(-1)
    n = 200_000
    u = (torch.arange(n) + torch.rand(n)) / n  # stratified: frequencies are exact to 1/n
    counts = torch.bincount(invert_cdf(log_p.expand(n, V), u), minlength=V)
    assert (counts / n - log_p.exp()).abs().max() <= 3 / n


@pytest.mark.parametrize("u", [0.0, 2.0**-24, 0.5, 1 - 2.0**-24])
@pytest.mark.parametrize("allowed", [[0], [V - 1], [3], [2, 3, 8], [0, V - 1]], ids=str)
def test_a_code_of_probability_zero_is_never_chosen(u, allowed):
    log_p = torch.full((64, V), float("-inf"))
    log_p[:, allowed] = torch.randn(64, len(allowed)).log_softmax(-1)
    codes = invert_cdf(log_p, torch.full((64,), u))
    assert set(codes.tolist()) <= set(allowed)


def test_a_rare_last_code_is_never_rounded_in_or_out():
    log_p = torch.tensor([0.5, 0.5 - 1e-6, 1e-6], dtype=torch.float64).log()
    assert invert_cdf(log_p, torch.tensor(1 - 2e-6)).item() == 1
    assert invert_cdf(log_p, torch.tensor(1 - 2.0**-22)).item() == 2


def test_a_code_too_rare_for_a_sum_in_float32_keeps_its_interval():
    log_p = torch.tensor([0.0, -18.42, 0.0]).log_softmax(-1)  # p = ½, 5e-9, ½
    assert invert_cdf(log_p, torch.tensor(0.5)).item() == 1


def test_each_row_is_decided_by_itself():
    log_p, u = torch.randn(6, 4, V).log_softmax(-1), torch.rand(6, 4)
    whole = invert_cdf(log_p, u)
    rows = torch.stack([invert_cdf(a, b) for a, b in zip(log_p, u, strict=True)])
    assert whole.shape == (6, 4) and torch.equal(whole, rows)


SOURCES = [lambda n, seed: uniforms(n, 10, seed), lambda n, seed: gaussians(n, 5, 2, seed)]


@pytest.mark.parametrize("source", SOURCES, ids=["uniforms", "gaussians"])
def test_a_row_depends_on_seed_and_position_alone(source):
    many = source(9, 3)
    for n in (1, 4):
        assert torch.equal(source(n, 3), many[:n])
    assert len(source(0, 3)) == 0


@pytest.mark.parametrize("source", SOURCES, ids=["uniforms", "gaussians"])
def test_seeds_and_positions_never_share_a_row(source):
    seeds = [*range(40), 1000, 2**31, 2**32, 2**32 + 1, 2**53, 2**63 - 2]
    rows = torch.cat([source(40, s) for s in seeds]).flatten(1)
    assert len(rows.unique(dim=0)) == len(seeds) * 40


@pytest.mark.parametrize("source, mean, std", [
    (lambda n, s: uniforms(n, 2000, s), 0.5, 12**-0.5),
    (lambda n, s: gaussians(n, 1000, 2, s), 0, 1),
], ids=["uniforms", "gaussians"])
def test_rows_have_the_right_moments_and_neighbours_are_uncorrelated(source, mean, std):
    rows = torch.cat([source(12, seed) for seed in range(3)]).flatten(1)  # (36, 2000)
    z = (rows - mean) / std
    assert z.mean().abs() < 0.02 and (z.std() - 1).abs() < 0.02
    correlation = z @ z.T / z.shape[1] - torch.eye(len(z)) * z.square().mean(-1)
    assert correlation.abs().max() < 6 / 2000**0.5


def test_tokens_and_latents_of_one_seed_are_unrelated():
    u, eps = uniforms(8, 4000, 5), gaussians(8, 4000, 1, 5)[..., 0]
    from_eps = torch.special.ndtr(eps)
    for column in (from_eps, from_eps.flip(-1)):
        correlation = 12 * ((u - 0.5) * (column - 0.5)).mean(-1)
        assert correlation.abs().max() < 5 / 4000**0.5


# The settings as one object -------------------------------------------------------------------


@pytest.mark.parametrize("given", [
    {"cfg": float("nan")}, {"cfg": "2"}, {"cfg": True}, {"temperature": 0}, {"temperature": -1},
    {"temperature": float("inf")}, {"top_k": -1}, {"top_k": 2.5}, {"top_k": True}, {"top_p": 0},
    {"top_p": 1.1}, {"top_p": None},
], ids=str)
def test_sampling_refuses_a_setting_out_of_its_range_when_it_is_made(given):
    with pytest.raises(DD2Error, match=next(iter(given))):
        Sampling(**given)


def test_sampling_is_frozen_and_equal_by_value():
    s = Sampling(2, 1, 5.0, 1)
    assert s == Sampling(2.0, 1.0, 5, 1.0) and isinstance(s.top_k, int)
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.cfg = 3.0


def test_override_keeps_what_is_not_given_and_checks_what_is():
    s = Sampling(2.0, 0.9, 5, 0.8)
    assert s.override() == s.override(cfg=None, top_k=None) == s
    assert s.override(cfg=0, top_k=0) == Sampling(0.0, 0.9, 0, 0.8)
    with pytest.raises(DD2Error, match="top_p"):
        s.override(top_p=2)


def test_sampling_filters_as_its_numbers_say():
    logits = torch.randn(6, 20)
    expected = filter_logits(logits, 0.7, 9, 0.8)
    assert torch.equal(Sampling(3.0, 0.7, 9, 0.8).filter(logits), expected)
    assert not Sampling(3.0).filters and Sampling(top_k=3).filters
    assert Sampling(top_p=0.9).filters and Sampling(temperature=0.9).filters
    assert Sampling(3.0, 0.7, 9, 0.8).unfiltered() == Sampling(3.0)
    assert Sampling(**Sampling(3.0, 0.7, 9, 0.8).keywords()) == Sampling(3.0, 0.7, 9, 0.8)
