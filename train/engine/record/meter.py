"""Numbers of the log that tell how fast a stage trains and what it takes."""

import math
import sys
import time

import torch

from dd2core.errors import DD2Error
from train.engine import distributed
from train.measure.cost import estimate
from train.measure.counting.steps import STEPS
from train.settings.schema import Config

# Dense bfloat16 peak in FLOP/s by a part of the GPU's name, as the maker says; the first that fits.
PEAKS = (("A100", 312e12), ("A800", 312e12), ("H100 PCIe", 756e12), ("H100", 989e12),
         ("H800", 989e12), ("H200", 989e12), ("L40S", 362e12))
TIMES = ("images_per_s", "eta_s", "mfu", "memory_gib")  # that differ from run to run


def peak_flops(cfg: Config, device: torch.device) -> float | None:
    """FLOP/s of one device at its best: the setting, else that of a known GPU; None otherwise."""
    if cfg.peak_flops is not None or device.type != "cuda":
        return cfg.peak_flops
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS if part in name), None)


def usual_flops(cfg: Config, stage: str) -> float | None:
    """Floating-point operations of a process in a mean step of the stage, by the cost model; None
    where it has no model of the stage."""
    if stage not in STEPS:
        return None
    opts, world = getattr(cfg, stage), distributed.world()
    own = vars(cfg) | {"processes": world}
    try:
        cost, _, _ = estimate(Config(**own), stage, opts.batch // (world * opts.accumulate))
    except (DD2Error, RuntimeError):  # a number less in the log is no reason to train no more
        return None
    return sum(n * flops for n, _, flops in cost.steps) / max(1, sum(n for n, _, _ in cost.steps))


def memory_gib(device: torch.device) -> float | None:
    """Peak memory so far: allocated on the GPU, or of this process on the CPU; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB elsewhere


class Meter:
    """Rates between two lines of the log.

    Args:
        cfg (Config): the experiment.
        stage (str): its stage.
        device (torch.device): that trains.
        first (int): steps done before.
        main (bool): whether this process logs; the others need no cost model.
    """

    def __init__(self, cfg: Config, stage: str, device: torch.device, first: int, main: bool):
        self.opts, self.device = getattr(cfg, stage), device
        self.done, self.since = first, time.perf_counter()
        peak = peak_flops(cfg, device) if main else None
        flops = usual_flops(cfg, stage) if peak else None
        self.share = flops / peak if flops and peak else None  # of a second, at the peak

    def start(self) -> None:
        """Training begins now."""
        self.since = time.perf_counter()

    def numbers(self, done: int, optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, float]:
        """After `done` steps: learning rates, images/s, seconds to the end, MFU, peak memory."""
        now = time.perf_counter()
        each = max(now - self.since, 1e-9) / max(1, done - self.done)  # seconds
        self.done, self.since = done, now
        found = {f"lr_{name}" if i else "lr": o.param_groups[0]["lr"]
                 for i, (name, o) in enumerate(optimizers.items())}
        found |= {"images_per_s": self.opts.batch / each,
                  "eta_s": each * max(0, self.opts.steps - done)}
        if self.share is not None:
            found["mfu"] = self.share / each
        memory = memory_gib(self.device)
        if memory is not None:
            found["memory_gib"] = memory
        return {k: v for k, v in found.items() if math.isfinite(v)}
