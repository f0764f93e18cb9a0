"""Noising and preconditioning: the identities that the networks rely on (method §2–3)."""

import math

import pytest
import torch

from dd2core.schedule import add_noise, draw_times, generator_input, loss_weight, precondition

TIMES = torch.linspace(0.02, 1, 50, dtype=torch.float64)


def test_add_noise_runs_from_the_data_to_the_noise_on_a_straight_line():
    x_0, eps = torch.randn(2, 7, 3, dtype=torch.float64)
    ends = [add_noise(x_0, eps, torch.tensor([[t]], dtype=torch.float64)) for t in (0, 0.25, 1)]
    torch.testing.assert_close(ends[0], x_0)
    torch.testing.assert_close(ends[2], eps)
    torch.testing.assert_close(ends[1], 0.75 * x_0 + 0.25 * eps)


def test_c_in_gives_the_noised_token_unit_variance():
    c_in = precondition(TIMES)[2]
    variance = (1 - TIMES) ** 2 + TIMES**2  # of x_t, for x_0 and ε of unit variance
    torch.testing.assert_close(c_in**2 * variance, torch.ones_like(TIMES))


def test_the_target_of_F_has_unit_variance_and_is_uncorrelated_with_its_input():
    c_skip, c_out, _ = precondition(TIMES)
    # F = (x_0 − c_skip·x_t)/c_out, a combination of x_0 and ε with these two weights.
    of_x, of_eps = (1 - c_skip * (1 - TIMES)) / c_out, -c_skip * TIMES / c_out
    torch.testing.assert_close(of_x**2 + of_eps**2, torch.ones_like(TIMES))
    torch.testing.assert_close(of_x * (1 - TIMES) + of_eps * TIMES, torch.zeros_like(TIMES))


def test_loss_weight_counts_errors_in_units_of_F():
    torch.testing.assert_close(loss_weight(TIMES) * precondition(TIMES)[1] ** 2,
                               torch.ones_like(TIMES))


def test_the_clean_token_is_recovered_from_its_own_target():
    x_0, eps = torch.randn(2, 50, 3, dtype=torch.float64)
    t = TIMES[:, None]
    c_skip, c_out, c_in = precondition(t)
    x_t = add_noise(x_0, eps, t)
    target = (t * x_0 - (1 - t) * eps) * c_in  # the target of F in closed form
    torch.testing.assert_close(c_skip * x_t + c_out * target, x_0)


@pytest.mark.parametrize("t_init", [0.3, 0.83, 0.99])
def test_the_generators_head_sees_its_latent_as_it_is(t_init):
    eps = torch.randn(2, 5, 3, dtype=torch.float64)
    c_in = precondition(torch.tensor(t_init, dtype=torch.float64))[2]
    torch.testing.assert_close(c_in * generator_input(eps, t_init), eps)


def test_at_t_1_the_network_would_return_nothing_of_its_input():
    c_skip, c_out, c_in = precondition(torch.ones((), dtype=torch.float64))
    assert (c_skip.item(), c_out.item(), c_in.item()) == (0, 1, 1)


def test_times_fill_their_range_and_take_device_and_dtype_from_their_model():
    like = torch.empty(0, dtype=torch.float64)
    t = draw_times((4, 50, 50, 1), 0.05, 0.95, like, torch.Generator().manual_seed(0))
    assert t.shape == (4, 50, 50, 1) and t.dtype == torch.float64
    assert t.min() >= 0.05 and t.max() <= 0.95
    assert t.mean().item() == pytest.approx(0.5, abs=0.01)
    assert t.std().item() == pytest.approx(0.9 / math.sqrt(12), abs=0.01)
    again = draw_times((4, 50, 50, 1), 0.05, 0.95, like, torch.Generator().manual_seed(0))
    assert torch.equal(t, again)
