"""What the full-size presets cost beside the paper: `python -m train.fullsize plans=true`.

The paper gives hours on a machine of eight A800 by part (Tab. 8). Here every part of a preset's
stages is counted in operations (`train.measure.cost`), so that its hours follow from an assumed
speed, and the paper's hours say at which speed these operations would have taken them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from train.measure.cost import SPEED, Cost, estimate, sharded, sharing
from train.measure.counting.steps import trained
from train.settings.cli import load_config
from train.settings.schema import Config

GPUS = 8  # of the paper's machine
PAPER_HOURS = {  # Tab. 8, of eight A800
    "var-d16": {"GTS, head": 60.1, "GTS, whole": 8.0, "CSD": 42.6, "alignment": 4.8},
    "var-d20": {"GTS, head": 72.6, "GTS, whole": 9.1, "CSD": 88.0, "alignment": 4.7},
    "var-d24": {"GTS, head": 59.9, "GTS, whole": 17.2, "CSD": 19.0},
    "llamagen-l": {"adaptation": 3.3, "GTS, whole": 8.6, "CSD": 40.7},
}
PRESETS = ("var-d16", "var-d20", "var-d24", "llamagen-l", "llamagen-b", "llamagen-xl",
           "llamagen-xxl", "var-d30")
PARTS = {  # words of a kind of step (`kinds_of_steps`) → part, by stage
    "adapt": {"": "adaptation"},
    "gts": {"": "GTS, whole", "that train the head alone": "GTS, head"},
    "csd": {"": "CSD", "after the alignment": "CSD", "on hold": "alignment"},
}


@dataclass(frozen=True)
class Row:
    """One part of a preset's training.

    Attributes:
        preset, part: names.
        images: of a pass on each GPU.
        passes: of a step.
        gib: on each GPU.
        steps: optimiser steps (of G, where there are two networks).
        flops: of all steps on all GPUs.
    """

    preset: str
    part: str
    images: int
    passes: int
    gib: float
    steps: int
    flops: int

    @property
    def hours(self) -> float:
        """GPU-hours at `SPEED`."""
        return self.flops / SPEED / 3600

    @property
    def paper(self) -> float | None:
        """The paper's GPU-hours, if it names them."""
        hours = PAPER_HOURS.get(self.preset, {}).get(self.part)
        return None if hours is None else GPUS * hours


def stage_cost(cfg: Config, stage: str) -> Cost:
    """The cost of a step on each GPU, sharded if the preset is."""
    o = getattr(cfg, stage)
    cost, teacher, model = estimate(cfg, stage, o.batch // (cfg.processes * o.accumulate))
    if not cfg.shard:
        return cost
    return sharded(cost, teacher, model, trained(cfg, stage), sharing(cfg), o.accumulate)


def rows(name: str) -> Iterator[Row]:
    """The parts of a preset's training, in their order."""
    cfg = load_config([f"preset={name}"])
    for stage, parts in PARTS.items():
        o = getattr(cfg, stage)
        if o.steps == 0:
            continue
        cost, found = stage_cost(cfg, stage), {}
        for n, words, flops in reversed(cost.steps):
            steps, total = found.get(parts[words], (0, 0))
            found[parts[words]] = steps + n, total + n * flops * cfg.processes
        for part, (steps, total) in found.items():
            if steps:
                yield Row(name, part, o.batch // (cfg.processes * o.accumulate), o.accumulate,
                          cost.total / 2**30, steps, total)


def line(row: Row) -> str:
    """A row of the table."""
    paper, times, implied = "–", "–", "–"
    if row.paper is not None:
        paper, times = f"{row.paper:.0f}", f"{row.hours / row.paper:.1f}"
        implied = f"{row.flops / row.paper / 3600 / 1e12:.0f}"
    return (f"| `{row.preset}` | {row.part} | {row.images} × {row.passes} | {row.gib:.0f} | "
            f"{row.steps:,} | {row.flops / row.steps / 1e12:,.0f} | {row.hours:,.0f} | {paper} | "
            f"{times} | {implied} |")


HEAD = (
    "| preset | part | images a GPU × passes | GiB a GPU | steps | TFLOP a step | "
    f"GPU-hours at {SPEED / 1e12:.0f} TFLOP/s | paper's GPU-hours | ours ÷ paper's | "
    "paper's speed, TFLOP/s |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")


def print_table(names: list[str]) -> None:
    """The table of these presets, line by line as they are counted; all where none is named."""
    print(HEAD, flush=True)
    for name in names or PRESETS:
        for row in rows(name):
            print(line(row), flush=True)
