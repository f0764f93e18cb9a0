"""What one sampler painted and what it cost; two of them make a comparison.

Three clocks, kept apart: *model* is token generation alone, *decode* turns tokens into pixels
(both measured by the pipeline: device synchronised, warm-up excluded), *wall* is what a visitor
waited for these images, with every preview the teacher painted on the way.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from app.requests import Request

FRAMES = 25  # previews of one teacher run: more would spend more time drawing than sampling
REPEATS = 5  # of a one-step run, at most
QUICK = 1.0  # seconds; what takes longer is timed once, disturbances do not show in it


@dataclass(frozen=True)
class Run:
    """A sampler's images so far and their cost."""

    images: np.ndarray  # uint8 (B, H, W, C)
    step: int  # sequential steps done
    steps: int  # sequential steps in all
    passes: int  # network forward passes
    model_seconds: float
    decode_seconds: float
    wall_seconds: float

    @property
    def seconds(self) -> float:
        return self.model_seconds + self.decode_seconds

    @property
    def done(self) -> bool:
        return self.step == self.steps

    def numbers(self) -> dict[str, float | int | bool]:
        """Everything but the pixels, for programs."""
        return {
            "done": self.done,
            "step": self.step,
            "steps": self.steps,
            "passes": self.passes,
            "seconds": self.seconds,
            "model_seconds": self.model_seconds,
            "decode_seconds": self.decode_seconds,
            "wall_seconds": self.wall_seconds,
        }


class Samplers:
    """The two samplers of one pipeline, timed."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def one_step(self, request: Request) -> Run:
        """The generator: all tokens in one pass. A few milliseconds are easily disturbed, so a
        fast run is repeated, and the median one returned; the images are the same each time."""
        self._one_step(request)  # not counted: wakes the caches
        runs = [self._one_step(request)]
        while len(runs) < REPEATS and sum(run.wall_seconds for run in runs) < QUICK:
            runs.append(self._one_step(request))
        return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]

    def _one_step(self, request: Request) -> Run:
        start = time.perf_counter()
        sample = self.pipe.sample_one_step(request.labels, seed=request.seed)
        return _run(sample, 1, 1, time.perf_counter() - start)

    def teacher(self, request: Request, frames: int = FRAMES) -> Iterator[Run]:
        """The teacher as it paints, in about `frames` parts; the last is the finished one."""
        every = -(-self.pipe.teacher.num_steps // frames)
        setup = {"labels": request.labels, "seed": request.seed, **request.settings}
        start = None
        for part in self.pipe.stream_teacher(every=every, **setup):
            if start is None:  # the pipeline warms up before its first part: count from there
                start = time.perf_counter() - part.seconds - part.decode_seconds
            run = _run(part, part.step, part.steps, time.perf_counter() - start)
            if run.done and frames > 1 and run.model_seconds < QUICK:
                run = self._without_audience(run, setup)
            yield run

    def _without_audience(self, run: Run, setup: dict[str, Any]) -> Run:
        """A fast teacher's times, read again with no previews drawn and sent in between: those
        slow its steps down, by half and more, which would flatter the one-step model."""
        sample = self.pipe.sample_teacher(**setup)
        return replace(
            run, model_seconds=sample.seconds, decode_seconds=sample.decode_seconds
        )


def speedup(one: Run, teacher: Run | None) -> dict[str, float | None]:
    """How many times faster one step is; None until the teacher has finished."""
    if teacher is None or not teacher.done:
        return {"speedup": None, "speedup_model": None}
    return {
        "speedup": teacher.seconds / one.seconds,
        "speedup_model": teacher.model_seconds / one.model_seconds,
    }


def machine(pipe: Any) -> dict[str, str | int]:
    """What the clocks were read on."""
    device = pipe.device
    gpu = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "model": pipe.name,
        "device": f"{device.type}{gpu}",
        "dtype": str(pipe.teacher.codebook.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _run(sample: Any, step: int, steps: int, wall_seconds: float) -> Run:
    return Run(
        images=sample.images,
        step=step,
        steps=steps,
        passes=sample.passes,
        model_seconds=sample.seconds,
        decode_seconds=sample.decode_seconds,
        wall_seconds=wall_seconds,
    )
