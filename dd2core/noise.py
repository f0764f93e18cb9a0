"""Where randomness comes from: streams by (seed, purpose, batch), latents ε, uniform numbers.

And how a batch that is worked on in parts has the same noise as the whole (`Part`).
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def slerp(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """sin((1 − s)Ω)/sin Ω · a + sin(sΩ)/sin Ω · b, Ω the angle between a and b (method §5).

    The whole latent of an image is one vector. Between two standard normal latents every point of
    the way is of their length, as the generator knows them; a straight line would pass through
    shorter ones. Where Ω is next to nothing the straight line is taken.

    Args:
        a, b (Tensor): latents, shape (..., L, C).
        s (Tensor): places on the way, 0 at a and 1 at b, shape (...); leading dimensions broadcast.

    Returns:
        Tensor: shape (..., L, C).
    """
    flat_a, flat_b = a.flatten(-2), b.flatten(-2)  # (..., L·C)
    lengths = flat_a.norm(dim=-1) * flat_b.norm(dim=-1)
    cos = ((flat_a * flat_b).sum(-1) / lengths).clamp(-1, 1)
    angle = torch.acos(cos)
    near = angle.sin() < 1e-4
    sin = torch.where(near, torch.ones_like(angle), angle.sin())
    of_a = torch.where(near, 1 - s, ((1 - s) * angle).sin() / sin)
    of_b = torch.where(near, s, (s * angle).sin() / sin)
    return of_a[..., None, None] * a + of_b[..., None, None] * b


def stream_seed(seed: int, purpose: str, *place: int) -> int:
    """One seed of (seed, purpose, place): two that differ in any of them share no stream.

    Adding would let batch 1 of seed 0 be batch 0 of seed 1, and one purpose reuse another's noise.

    Args:
        seed (int): of the run.
        purpose (str): what the numbers are for.
        place (int): batch, step, process, …

    Returns:
        int: in 0…2⁶³−2, which every sampler takes.
    """
    text = "/".join([str(seed), purpose, *map(str, place)])
    mixed = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(mixed, "little") % (2**63 - 1)


def sample_seeds(n: int, seed: int) -> list[int]:
    """Seeds of the samples 0…n−1 of a run: they depend on (seed, position) alone (method §10)."""
    # A bijective mix: neighbouring seeds and positions give unrelated streams.
    return [(seed * 0x9E3779B97F4A7C15 + i * 0xD1B54A32D192ED03) % (2**63 - 1) for i in range(n)]


def uniforms(n: int, length: int, seed: int) -> Tensor:
    """Uniform numbers in [0, 1) for AR sampling, one generator per sample, shape (n, length)."""
    rows = [torch.rand(length, generator=_source(s)) for s in sample_seeds(n, seed)]
    return torch.stack(rows) if rows else torch.empty(0, length)


def gaussians(n: int, length: int, dim: int, seed: int) -> Tensor:
    """Latents ε, one generator per sample, shape (n, length, dim)."""
    rows = [torch.randn(length, dim, generator=_source(s + 1)) for s in sample_seeds(n, seed)]
    return torch.stack(rows) if rows else torch.empty(0, length, dim)


def _source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows index, index + count, index + 2·count, … of a batch: what one pass works on.

    Noise is drawn for the whole batch and then taken apart, so an image has the same noise however
    the batch is divided among processes and passes. Drawing costs next to nothing: a batch of 1024
    images of 680 × 32 numbers is 85 MiB for each noise time.
    """

    index: int = 0
    count: int = 1

    def take(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This part's rows of `whole` along `dim`: a copy, or `whole` itself where it is all."""
        if self.count == 1:
            return whole
        rows = (slice(None),) * dim + (slice(self.index, None, self.count),)
        return whole[rows].clone()

    def split(self, passes: int) -> list["Part"]:
        """The parts of a process that works on its share in several passes: of all processes
        together, `passes` times as many, each of them as it would be alone (a virtual rank)."""
        return [Part(self.index * passes + i, self.count * passes) for i in range(passes)]

    def own_draws(self, seed: int, purpose: str, *place: int) -> None:
        """From here on torch draws numbers of this part alone, a stream of their own.

        For what a network draws inside (dropout): that cannot be drawn for the whole batch, and all
        parts would drop the same. Where the part is all of the batch nothing changes.
        """
        if self.count > 1:
            torch.manual_seed(stream_seed(seed, purpose, *place, self.index))


WHOLE = Part()


def same_draws(parts: Sequence[Part], device: torch.device) -> Iterator[Part]:
    """The parts in turn, torch's generators each time as the first part found them.

    So every part draws the numbers of the whole batch, of which it then takes its rows.
    """
    if len(parts) == 1:
        yield parts[0]
        return
    sources = [torch] if device.type == "cpu" else [torch, torch.get_device_module(device)]
    states = [source.get_rng_state() for source in sources]
    for part in parts:
        for source, state in zip(sources, states, strict=True):
            source.set_rng_state(state)
        yield part
