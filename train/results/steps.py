"""Real training steps of a preset beside its plan: `python -m train.fullsize training=gts,csd`.

One process does what one of the preset's GPUs would, with the stages' own jobs: random weights,
random tokens, the same images in a pass, fewer passes in a step. The plan is of the same step.
"""

import dataclasses
import gc
from collections.abc import Iterator
from typing import Any

import torch

from dd2core.errors import DD2Error
from dd2core.teacher import Teacher
from train.csd import CSDJob
from train.data.tokens import TokenData
from train.engine.loop import seeded_step
from train.gts import GTSJob
from train.measure.cost import build_teacher, estimate
from train.measure.timing import settled, typical
from train.settings.cli import load_config
from train.settings.schema import Config

STAGES = ("gts", "csd")
SEQUENCES = 4096  # random ones, as in a dry run
HEAD = ("| preset | part | images a GPU × passes | GiB estimated | GiB measured | GiB reserved | "
        "seconds a pass | TFLOP a pass | TFLOP/s |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")


@dataclasses.dataclass(frozen=True)
class Measured:
    """One kind of step, on one device.

    Attributes:
        preset, part: names.
        images, passes: of a pass; of the step that was run.
        estimated: GiB that the plan of this step says.
        measured, reserved: GiB of tensors at most, and of the allocator; None on a CPU.
        seconds: of a pass, optimiser and average included.
        flops: of a pass, as the plan counts them.
    """

    preset: str
    part: str
    images: int
    passes: int
    estimated: float
    measured: float | None
    reserved: float | None
    seconds: float
    flops: float


def of_one_gpu(name: str, stage: str, passes: int) -> Config:
    """The preset's settings for one process with the share of one of its GPUs.

    Args:
        name (str): preset.
        stage (str): gts or csd.
        passes (int): of a step, at most; 0 is the preset's number.
    """
    cfg = load_config([f"preset={name}"])
    o = getattr(cfg, stage)
    images = o.batch // (cfg.processes * o.accumulate)
    o.accumulate = min(passes, o.accumulate) if passes else o.accumulate
    o.batch, cfg.processes, cfg.shard = images * o.accumulate, 1, False
    # No weights are read: both networks of csd start as the teacher with a fresh head.
    cfg.csd.generator_from_teacher = cfg.csd.guidance_from_teacher = True
    cfg.csd.pair_share = 0.0
    return cfg


def random_tokens(teacher: Teacher) -> TokenData:
    """Sequences and labels without meaning, on the CPU, where a run has them too."""
    x = torch.randint(teacher.num_codes, (SEQUENCES, teacher.num_tokens))
    y = torch.arange(SEQUENCES) % teacher.num_classes
    return TokenData(x, y, x[:256], y[:256])


def parts(cfg: Config, stage: str) -> Iterator[tuple[str, int, int]]:
    """What is measured of a stage: name, number of the step, which of `Cost.steps` it is."""
    if stage == "csd":
        yield "CSD", 0, 0
        return
    if cfg.gts.head_steps:
        yield "GTS, head", 0, 1
    yield "GTS, whole", cfg.gts.head_steps, 0


def measure_steps(
    name: str, stage: str, device: torch.device, passes: int, repeats: int
) -> Iterator[Measured]:
    """The kinds of steps of a stage, one after the other."""
    cfg = of_one_gpu(name, stage, passes)
    o: Any = getattr(cfg, stage)
    cost = estimate(cfg, stage, o.batch // o.accumulate)[0]
    torch.manual_seed(cfg.seed)
    teacher = build_teacher(cfg, str(device))
    data = random_tokens(teacher)
    job = GTSJob(cfg, teacher, data) if stage == "gts" else CSDJob(cfg, teacher, data, o)
    for part, first, kind in parts(cfg, stage):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        seconds = settled(lambda i=first: seeded_step(cfg, job, i, stage), repeats, device)
        measured, reserved = memory(device)
        yield Measured(name, part, o.batch // o.accumulate, o.accumulate, cost.total / 2**30,
                       measured, reserved, typical(seconds, device) / o.accumulate,
                       cost.steps[kind][2] / o.accumulate)


def memory(device: torch.device) -> tuple[float | None, float | None]:
    """GiB of tensors and of the allocator, the most since the last reset; None but on CUDA."""
    if device.type != "cuda":
        return None, None
    return (torch.cuda.max_memory_allocated(device) / 2**30,
            torch.cuda.max_memory_reserved(device) / 2**30)


def line(m: Measured) -> str:
    """A row of the table."""
    measured, reserved = ("–" if a is None else f"{a:.1f}" for a in (m.measured, m.reserved))
    return (f"| `{m.preset}` | {m.part} | {m.images} × {m.passes} | {m.estimated:.1f} | {measured} "
            f"| {reserved} | {m.seconds:.3f} | {m.flops / 1e12:.1f} | "
            f"{m.flops / m.seconds / 1e12:.1f} |")


def print_steps(
    name: str, stages: list[str], device: torch.device, passes: int, repeats: int
) -> list[dict]:
    """The table, line by line as it is measured; also as dictionaries.

    Raises:
        DD2Error: another stage than gts and csd.
    """
    for stage in stages:
        if stage not in STAGES:
            raise DD2Error(f"training={stage} is unknown: use {' or '.join(STAGES)}, or both with "
                           "a comma.")
    print(HEAD, flush=True)
    found = []
    for stage in stages:
        for m in measure_steps(name, stage, device, passes, repeats):
            print(line(m), flush=True)
            found.append(dataclasses.asdict(m))
        gc.collect()  # the stage's networks, before those of the next are made
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return found
