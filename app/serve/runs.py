"""What one sampler painted and what it cost; two of them make a comparison.

Three clocks, kept apart: *model* is token generation alone, *decode* turns tokens into pixels
(both measured by the pipeline: device synchronised, warm-up excluded), *wall* is what a visitor
waited for these images, with every preview the teacher painted on the way.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from app.requests import Request
from app.serve.token_score import examine
from app.serve.turns import THREADS, turn
from app.zero import on_gpu
from dd2core.noise import slerp

FRAMES = 25  # previews of one teacher run: more would spend more time drawing than sampling
REPEATS = 5  # of a one-step run, at most
QUICK = 1.0  # seconds; a one-step run that takes longer is timed once
UNSEEN = 5.0  # seconds; a teacher that takes longer is not run again without its audience


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
    threads: int  # CPU threads of the model

    @property
    def seconds(self) -> float:
        """Of model and decoder, without what lies between."""
        return self.model_seconds + self.decode_seconds

    @property
    def done(self) -> bool:
        """Whether no step is left."""
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
            "threads": self.threads,
        }


class Samplers:
    """The samplers of one pipeline, timed. Methods take and give plain data and arrays, so that
    they can run in another process where the GPU is lent per call.

    Each step of any of them has the machine to itself (`turn`): a visitor who drags a slider does
    not slow the clocks of another one's comparison.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.one_step = on_gpu(self._one_step_median, lambda request: request.count)
        self.teacher = on_gpu(self._teacher, lambda request, frames=FRAMES: request.count)
        self.refine = on_gpu(self._refine, lambda request, start: request.count)
        self.examine = on_gpu(partial(examine, pipe), lambda label, seed, place, time: 1)
        self.morph = on_gpu(self._morph, lambda labels, seed_a, seed_b, places: len(labels))

    def _one_step_median(self, request: Request) -> Run:
        """The generator: all tokens in one pass. A few milliseconds are easily disturbed, so a
        fast run is repeated, and the median one returned; the images are the same each time."""
        first = self._one_step(request)
        if first.seconds > QUICK:
            return first
        runs = [self._one_step(request)]  # the first woke the caches
        while len(runs) < REPEATS and sum(run.wall_seconds for run in runs) < QUICK:
            runs.append(self._one_step(request))
        return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]

    def _one_step(self, request: Request) -> Run:
        with turn():
            start = time.perf_counter()
            sample = self.pipe.sample_one_step(request.labels, seed=request.seed)
            return _run(sample, 1, 1, time.perf_counter() - start)

    def _teacher(self, request: Request, frames: int = FRAMES) -> Iterator[Run]:
        """The teacher as it paints, in about `frames` parts; the last is the finished one."""
        every = -(-self.pipe.teacher.num_steps // frames)
        setup = {"labels": request.labels, "seed": request.seed,
                 **request.sampling.keywords()}
        parts, start = self.pipe.stream_teacher(every=every, **setup), None
        while part := _next(parts):
            if start is None:  # the pipeline warms up before its first part: count from there
                start = time.perf_counter() - part.seconds - part.decode_seconds
            run = _run(part, part.step, part.steps, time.perf_counter() - start)
            if run.done and frames > 1 and run.model_seconds < UNSEEN:
                run = self._without_audience(run, setup)
            yield run

    def _without_audience(self, run: Run, setup: dict[str, Any]) -> Run:
        """A teacher's times, read again with no previews drawn and sent in between: those slow
        the steps of a small model down, by half and more, which would flatter the other one."""
        with turn():
            sample = self.pipe.sample_teacher(**setup)
        return replace(run, model_seconds=sample.seconds, decode_seconds=sample.decode_seconds)

    def _refine(self, request: Request, start: int) -> Run:
        """One step, then the teacher from step `start` on."""
        with turn(live=True):
            since = time.perf_counter()
            sample = self.pipe.refine(
                request.labels, seed=request.seed, start=start, **request.sampling.keywords(),
            )
            return _run(sample, sample.passes, sample.passes, time.perf_counter() - since)

    def _morph(self, labels: list[int], seed_a: int, seed_b: int, places: list[float]) -> Run:
        """One-step images on the way between the latents of two seeds, one label and one place
        in [0, 1] each, all in one pass."""
        with turn(live=True):
            since = time.perf_counter()
            ends = (self.pipe.latents(1, seed) for seed in (seed_a, seed_b))
            way = torch.tensor(places, device=self.pipe.device)
            sample = self.pipe.sample_one_step(labels, latents=slerp(*ends, way))
            return _run(sample, 1, 1, time.perf_counter() - since)


def _next(parts: Iterator[Any]) -> Any | None:
    """The next part, made in its turn; None at the end."""
    with turn():
        return next(parts, None)


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
        "threads": THREADS,
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
        threads=sample.threads,
    )
