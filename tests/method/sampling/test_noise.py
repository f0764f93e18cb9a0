"""Seeds of streams, and spherical interpolation of latents."""

import math

import pytest
import torch

from dd2core.noise import slerp, stream_seed


def latents(seed: int, n: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, 4, generator=generator, dtype=torch.float64)


def test_the_ends_are_the_two_latents():
    a, b = latents(0), latents(1)
    assert torch.allclose(slerp(a, b, torch.zeros(1, dtype=a.dtype)), a)
    assert torch.allclose(slerp(a, b, torch.ones(1, dtype=a.dtype)), b)


def test_equal_lengths_are_kept_and_the_angle_grows_evenly():
    a, b = latents(0), latents(1)
    b = b * a.norm() / b.norm()
    s = torch.linspace(0, 1, 9, dtype=a.dtype)
    way = slerp(a, b, s).flatten(1)
    assert torch.allclose(way.norm(dim=1), a.norm().expand(9))
    steps = torch.nn.functional.cosine_similarity(way[1:], way[:-1]).acos()
    assert torch.allclose(steps, steps[0].expand(8))
    straight = torch.lerp(a, b, 0.5)
    assert straight.norm() < 0.9 * a.norm()  # what the sphere is for


def test_closed_form_at_a_right_angle():
    a, b = torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)
    a[..., 0], b[..., 1] = 1, 1
    middle = slerp(a, b, torch.tensor([1 / 3]))
    assert torch.allclose(middle, torch.tensor([[[math.cos(math.pi / 6), 0.5]]]))


@pytest.mark.parametrize("factor", [1.0, 1.0000001, -1.0])
def test_parallel_latents_give_finite_numbers(factor):
    a = latents(0)
    way = slerp(a, factor * a, torch.linspace(0, 1, 5, dtype=a.dtype))
    assert way.isfinite().all()
    assert torch.allclose(way[0], a[0]) and torch.allclose(way[-1], factor * a[0])


def test_each_pair_of_a_batch_has_its_own_place():
    a, b, s = latents(0, 3), latents(1, 3), torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    together = slerp(a, b, s)
    for i in range(3):
        assert torch.equal(together[i : i + 1], slerp(a[i : i + 1], b[i : i + 1], s[i : i + 1]))


# Streams --------------------------------------------------------------------------------------


def test_streams_differ_in_seed_purpose_and_every_number_of_their_place():
    places = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 11), (11, 1), (111,)]
    asked = [(seed, purpose, *place) for seed in (0, 1, 11, 2**62) for purpose in ("", "a", "1")
             for place in places]
    assert len({stream_seed(*a) for a in asked}) == len(asked)
    assert stream_seed(3, "a", 5) == stream_seed(3, "a", 5)


def test_every_sampler_takes_the_seed_of_a_stream():
    seeds = [stream_seed(0, "range", i) for i in range(2000)]
    assert min(seeds) >= 0 and 2**62 < max(seeds) < 2**63 - 1
    assert all(isinstance(s, int) for s in seeds)
