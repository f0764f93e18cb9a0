"""Four processes, two in two passes, one in four: the same samples, the same weights."""

import os
from pathlib import Path

import pytest
import torch

from dd2core.csd import CSDOptions, CSDTrainer
from tests.support import tiny
from tests.support.forked import forked
from train.engine import distributed

CPU, B, L, C, V = torch.device("cpu"), 8, 16, 4, 32
OPTIONS = {"form": "sid", "guidance_steps": 2, "fresh": True, "fcs_times": 2}


def descend(rank: int, out: Path, passes: int) -> None:
    """Two steps of CSD by Adam, in float64: Adam makes a rounding of float32 a whole step where a
    gradient is nearly 0. The weights of this process go to `out`."""
    distributed.start(CPU)
    teacher = tiny.teacher().double()
    nets = [tiny.score_model(teacher, seed).double() for seed in (1, 2)]
    adams = [torch.optim.Adam(m.parameters(), 0.01) for m in nets]
    job = CSDTrainer(teacher, *nets, *adams, CSDOptions(accumulate=passes, **OPTIONS),
                     distributed.average_gradients, total=distributed.total)
    torch.manual_seed(7)
    known = torch.randint(V, (3, L))  # of the first images: shares of processes are uneven
    for _ in range(2):
        job.step(torch.randn(B, L, C).double(), torch.arange(B) % 3, known,
                 part=distributed.own_part())
    torch.save(torch.cat([p.detach().flatten() for m in (job.generator, job.guidance, job.ema)
                          for p in m.parameters()]), out / f"{passes}-{rank}.pt")


@pytest.fixture(scope="module")
def ends(tmp_path_factory) -> dict[str, list[torch.Tensor]]:
    """processes × passes → the weights of each process."""
    out, found = tmp_path_factory.mktemp("ends"), {}
    for world, passes in ((4, 1), (2, 2), (1, 4), (1, 1)):
        for code, said in forked(out, descend, out, passes, world=world):
            assert code == 0, said
        found[f"{world}x{passes}"] = [torch.load(out / f"{passes}-{rank}.pt")
                                      for rank in range(world)]
        for path in out.glob("*.pt"):
            os.remove(path)
    return found


@pytest.mark.parametrize("division", ["4x1", "2x2", "1x4"])
def test_every_division_of_four_parts_trains_the_weights_of_the_whole_batch(ends, division):
    [whole] = ends["1x1"]
    assert len(ends[division]) == int(division[0]) and whole.dtype == torch.float64
    for weights in ends[division]:
        torch.testing.assert_close(weights, whole, rtol=1e-9, atol=1e-9)


def test_the_steps_moved_the_weights(ends):
    teacher = tiny.teacher().double()
    nets = [tiny.score_model(teacher, seed).double() for seed in (1, 2)]
    first = torch.cat([p.detach().flatten() for m in nets for p in m.parameters()])
    moved = (ends["1x1"][0][: len(first)] - first).abs()
    assert (moved > 1e-3).float().mean() > 0.9
