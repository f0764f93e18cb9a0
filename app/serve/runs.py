"""What one sampler painted and what it cost; two of them make a comparison.

Three clocks, kept apart: *model* is token generation alone, *decode* turns tokens into pixels
(both measured by the pipeline: device synchronised, warm-up excluded), *wall* is what a program
waited for these images, warm-up and every preview included. While a run is watched, its clock only
climbs; once both samplers are done, `measure` runs them again in turns with nobody watching, and
times and ratio are those (`app.serve.clocks`).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from app.own import tasks
from app.requests import Request
from app.serve import clocks
from app.serve.clocks import Clock, Reading
from app.serve.token_score import examine
from app.serve.turns import THREADS, turn
from app.zero import on_gpu
from dd2core.noise import slerp

FRAMES = 25  # previews of one teacher run: more would spend more time drawing than sampling


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
    watched: float | None = None  # seconds of the run that was watched, once it was measured again
    low_seconds: float | None = None  # half of the readings lie between low and high
    high_seconds: float | None = None
    readings: int = 0  # taken again with nobody watching

    @property
    def seconds(self) -> float:
        """Of model and decoder, without what lies between; the median once it was measured."""
        return self.model_seconds + self.decode_seconds

    @property
    def watched_seconds(self) -> float:
        """The same, of the run that was watched."""
        return self.seconds if self.watched is None else self.watched

    def measured(self, clock: Clock) -> "Run":
        """This run, with the times of all readings."""
        low, high = (clock.low, clock.high) if clock.readings > 1 else (None, None)
        return replace(
            self, model_seconds=clock.median.model, decode_seconds=clock.median.decode,
            watched=self.watched_seconds, low_seconds=low, high_seconds=high,
            readings=clock.readings,
        )

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.step == self.steps

    @property
    def final(self) -> bool:
        """Whether the times are those that count: measured again, or too slow for that."""
        return self.done and (self.readings > 0 or self.watched_seconds > clocks.UNSEEN)

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
            "seconds_low": self.low_seconds,
            "seconds_high": self.high_seconds,
            "readings": self.readings,
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
        self.readings = clocks.Readings()
        self.one_step = on_gpu(self._one_step, lambda request: request.count)
        self.teacher = on_gpu(self._teacher, lambda request, frames=FRAMES: request.count)
        self.measure = on_gpu(self._measure, lambda request, seconds: request.count)
        self.refine = on_gpu(self._refine, lambda request, start: request.count)
        self.examine = on_gpu(partial(examine, pipe), lambda label, seed, place, time: 1)
        self.morph = on_gpu(self._morph, lambda labels, seed_a, seed_b, places: len(labels))
        self.rebuild = on_gpu(partial(tasks.rebuild, pipe), lambda picture, mask: 1)
        self.fill = on_gpu(partial(tasks.fill, pipe), lambda picture, mask, label, seed: 3)
        self.gallery = on_gpu(partial(tasks.gallery, pipe), lambda labels, seed: len(labels))

    def warm_up(self, count: int) -> None:
        """Paint once with both, so that the first visitor does not wait for caches."""
        labels = [i % len(self.pipe.class_names) for i in range(count)]
        if self.pipe.generator is not None:
            with turn():
                self.pipe.sample_one_step(labels)
        with turn():
            next(self.pipe.stream_teacher(labels))

    def _one_step(self, request: Request) -> Run:
        """The generator: all tokens in one pass."""
        start = time.perf_counter()
        with turn():
            sample = self.pipe.sample_one_step(request.labels, seed=request.seed)
        return _run(sample, 1, 1, time.perf_counter() - start)

    def _teacher(self, request: Request, frames: int = FRAMES) -> Iterator[Run]:
        """The teacher as it paints, in about `frames` parts; the last is the finished one."""
        every, start = -(-self.pipe.teacher.num_steps // frames), time.perf_counter()
        parts = self.pipe.stream_teacher(every=every, **_setup(request))
        while part := _next(parts):
            yield _run(part, part.step, part.steps, time.perf_counter() - start)

    def _measure(self, request: Request, seconds: float) -> Iterator[tuple[Clock, Clock]]:
        """The clocks of one step and teacher, better with each reading; `seconds` are those that
        the teacher took when it was watched. Earlier readings with the same settings count. Nothing
        is drawn or sent between the steps: that slows those of a small model by half and more,
        which would flatter the other one."""
        def one_step() -> Reading:
            with turn():
                sample = self.pipe.sample_one_step(request.labels, seed=request.seed)
            return Reading(sample.seconds, sample.decode_seconds)

        def teacher() -> Reading:
            with turn():
                sample = self.pipe.sample_teacher(**_setup(request))
            return Reading(sample.seconds, sample.decode_seconds)

        if seconds > clocks.UNSEEN:
            return
        least = clocks.LEAST if seconds < clocks.SLOW else 1
        asked = (request.count, request.sampling)
        before = self.readings.of(asked)
        for taken in clocks.in_turns(one_step, teacher, least=least, taken=before):
            self.readings.keep(asked, taken)
            if all(taken):
                yield clocks.summary(taken[0]), clocks.summary(taken[1])

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
    """How many times faster one step is; None until both were measured. The ratio is that of
    the medians, low and high are those of the quartiles the other way round: it lies between."""
    names = ("speedup", "speedup_low", "speedup_high", "speedup_model")
    if teacher is None or not teacher.final:
        return dict.fromkeys(names)
    ratios: list[float | None] = [teacher.seconds / one.seconds, None, None,
                                  teacher.model_seconds / one.model_seconds]
    if one.high_seconds and one.low_seconds and teacher.low_seconds and teacher.high_seconds:
        ratios[1] = teacher.low_seconds / one.high_seconds
        ratios[2] = teacher.high_seconds / one.low_seconds
    return dict(zip(names, ratios, strict=True))


def _setup(request: Request) -> dict[str, Any]:
    """What the pipeline's teacher is asked for."""
    return {"labels": request.labels, "seed": request.seed, **request.sampling.keywords()}


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
