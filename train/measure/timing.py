"""Timing samplers in turns, each on the CPU threads that suit it."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from dd2core.tools.timing import cpu_threads, synchronise

Samplers = dict[str, Callable[[], Tensor]]


MIN_SECONDS = 0.05  # one reading lasts at least this: fast samplers are called several times


def sum_type(device: torch.device) -> torch.dtype:
    """float64 for sums of probabilities; Apple's GPUs have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def fastest_threads(
    samplers: Samplers, repeats: int, device: torch.device, counts: list[int]
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """`time_in_turns` on each count of CPU threads in turn; of each sampler the count with the
    smallest median.

    Returns:
        seconds per call, one number per round, and the count of threads, both by sampler.
    """
    best: dict[str, list[float]] = {}
    threads: dict[str, int] = {}
    for count in counts or [torch.get_num_threads()]:
        with cpu_threads(count):
            times = time_in_turns(samplers, repeats, device)
        for name, t in times.items():
            if name not in best or statistics.median(t) < statistics.median(best[name]):
                best[name], threads[name] = t, count
    return best, threads


def time_in_turns(
    samplers: Samplers, repeats: int, device: torch.device, min_seconds: float = MIN_SECONDS
) -> dict[str, list[float]]:
    """Seconds per call of each sampler, one number per round.

    Every round times every sampler once, in turn, and every other round backwards. The first calls
    of each are not counted.
    """
    def reading(f: Callable[[], Tensor], calls: int) -> float:
        synchronise(device)
        since = time.perf_counter()
        for _ in range(calls):
            f()
        synchronise(device)
        return (time.perf_counter() - since) / calls

    calls, times = {}, {name: [] for name in samplers}
    for name, f in samplers.items():
        reading(f, 1)
        calls[name] = max(1, round(min_seconds / reading(f, 1)))
    for r in range(repeats):
        names = list(samplers) if r % 2 == 0 else list(reversed(samplers))
        for name in names:
            times[name].append(reading(samplers[name], calls[name]))
    return times


def settled(call: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Seconds of each of `repeats` calls, the device waited for before and after; on a GPU a call
    before them, which is not among them, loads kernels and fills the allocator."""
    seconds = []
    for _ in range(repeats + (device.type != "cpu")):
        synchronise(device)
        since = time.perf_counter()
        call()
        synchronise(device)
        seconds.append(time.perf_counter() - since)
    return seconds[-repeats:]


def typical(seconds: list[float], device: torch.device) -> float:
    """The median on a GPU; on a CPU, which others disturb, the fastest."""
    return min(seconds) if device.type == "cpu" else statistics.median(seconds)


def device_name(device: torch.device) -> str:
    """What the numbers were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "CPU" if device.type == "cpu" else device.type


def row(n: int, times: dict[str, list[float]], threads: dict[str, int]) -> dict:
    """One line of the table: milliseconds per batch of n images, and the ratios."""
    ms = {name: 1e3 * statistics.median(t) for name, t in times.items()}
    decode = ms["decode"]
    return {
        "batch": n,
        "ms": ms,
        "threads": threads,
        "ms_range": {name: [1e3 * min(t), 1e3 * max(t)] for name, t in times.items()},
        "ratio": ms["teacher"] / ms["one_step"],
        "ratio_with_decoding": (ms["teacher"] + decode) / (ms["one_step"] + decode),
        "teacher_over_yardstick": ms["teacher"] / ms["yardstick"] if "yardstick" in ms else None,
    }
