"""How many CPU threads a sampler runs on.

An AR step of a small model is often fastest on one thread, the one-step pass on all: a ratio of
times is honest only if each sampler has the count that suits it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

PATIENCE = 1.0  # seconds; after that no further reading is taken to find the best count
READINGS = 3  # of each count, in turns; the fastest counts, so that a disturbed one does no harm


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run torch's CPU kernels on `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def best_threads(run: Callable[[], object], device: torch.device) -> int:
    """The count of threads, one or all, on which `run` is faster; after a call that warms it up.

    All of them where there is nothing to choose: not on a CPU, a single one, or a slow `run`.
    """
    every = torch.get_num_threads()
    since = time.perf_counter()
    run()  # the first call pays for caches
    if device.type != "cpu" or every == 1 or time.perf_counter() - since > PATIENCE:
        return every
    rounds: list[tuple[float, float]] = []
    while not rounds or (len(rounds) < READINGS and time.perf_counter() - since < PATIENCE):
        rounds.append((_seconds(run, every), _seconds(run, 1)))
    on_every, on_one = map(min, zip(*rounds, strict=True))
    return every if on_every <= on_one else 1


def _seconds(run: Callable[[], object], count: int) -> float:
    with cpu_threads(count):
        since = time.perf_counter()
        run()
        return time.perf_counter() - since


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that a clock read next is honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
