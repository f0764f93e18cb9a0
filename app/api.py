"""Request → sampler → what the page or a program gets back.

What is here is for programs: `/compare`, `/generate` and `/interpolate`, each an image grid and a
dict of numbers. The tabs of the page share the road and present HTML.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from app.html import present
from app.html.files import animation, keep, keep_bytes
from app.requests import (
    ALL_CLASSES,
    MAX_FRAMES,
    Request,
    check_sampler,
    read_class,
    read_request,
    read_seed,
    refuse,
    whole,
)
from app.serve.clocks import SETTLE, UNSEEN
from app.serve.models import Models
from app.serve.runs import Run, Samplers, machine, speedup
from dd2core import DD2Error


class Handlers:
    """The endpoints for programs, over all models."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def compare(
        self,
        class_name: str = ALL_CLASSES,
        count: int = 8,
        seed: int | None = 0,
        cfg: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        model: str | None = None,
    ) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Paint the same classes with both samplers, as a stream: the one-step images are in the
        first message, the teacher's grow from message to message. Same arguments, same images.

        Args:
            class_name: name of the class to paint, or "All classes" for all in turn.
            count: how many images, 1 to 64.
            seed: whole number from 0 to 4294967295; null draws one and reports it.
            cfg: the teacher's guidance, 0 to 20; null means the model's default.
            temperature: the teacher's temperature, 0.05 to 5; null means the model's default.
            top_k: keep the teacher's k likeliest codes, 0 keeps all; null is the default.
            top_p: keep the teacher's likeliest codes up to this probability, 0.01 to 1.
            model: name of the model; null is the page's first.

        Returns:
            One-step images in one grid.
            The teacher's images so far in one grid; null in the first message.
            Numbers: seed, classes, machine; times and passes of each; speedup (null until done).
        """
        samplers = self.models.get(model)
        values = (class_name, count, seed, cfg, temperature, top_k, top_p)
        request = read_request(samplers.pipe, *values)
        for one, teacher in both(samplers, request, crowded=self.models.crowded):
            if teacher is not None and teacher.done and not teacher.final:
                continue  # the same pictures come again, with the times
            numbers = about(samplers, request) | {
                "one_step": one.numbers(),
                "teacher": None if teacher is None else teacher.numbers(),
                **speedup(one, teacher),
            }
            painted = None if teacher is None else keep(present.grid(teacher.images))
            yield keep(present.grid(one.images)), painted, numbers

    def generate(
        self,
        sampler: str = "one_step",
        class_name: str = ALL_CLASSES,
        count: int = 8,
        seed: int | None = 0,
        cfg: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        model: str | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Paint images with one sampler. Same arguments, same images.

        Args:
            sampler: "one_step" (the distilled model) or "teacher" (token by token).
            class_name: name of the class to paint, or "All classes" for all in turn.
            count: how many images, 1 to 64.
            seed: whole number from 0 to 4294967295; null draws one and reports it.
            cfg: the teacher's guidance, 0 to 20; null means the model's default.
            temperature: the teacher's temperature, 0.05 to 5; null means the model's default.
            top_k: keep the teacher's k likeliest codes, 0 keeps all; null is the default.
            top_p: keep the teacher's likeliest codes up to this probability, 0.01 to 1.
            model: name of the model; null is the page's first.

        Returns:
            The images in one grid.
            Numbers: sampler, seed, classes, machine, times and passes.
        """
        check_sampler(sampler)
        samplers = self.models.get(model)
        values = (class_name, count, seed, cfg, temperature, top_k, top_p)
        request = read_request(samplers.pipe, *values)
        with plain_errors():
            if sampler == "one_step":
                run = samplers.one_step(request)
            else:
                *_, run = samplers.teacher(request, frames=1)
        numbers = {"sampler": sampler} | about(samplers, request) | run.numbers()
        return keep(present.grid(run.images)), numbers

    def interpolate(
        self,
        class_name: str | None = None,
        seed_a: int | None = 0,
        seed_b: int | None = 1,
        count: int = 8,
        model: str | None = None,
    ) -> tuple[str, str, dict[str, Any]]:
        """Walk from one seed's latent to another's, at one forward pass per image (all in one
        batch). Same arguments, same images.

        Args:
            class_name: name of the class to paint; null is the model's first.
            seed_a: where the walk starts, 0 to 4294967295; null draws one and reports it.
            seed_b: where it ends.
            count: how many images, both ends included, 2 to 48.
            model: name of the model; null is the page's first.

        Returns:
            The images in one grid, row by row.
            A GIF that goes there and back.
            Numbers: class, seeds, machine, times and passes.
        """
        samplers = self.models.get(model)
        pipe = samplers.pipe
        label = 0 if class_name is None else read_class(pipe, class_name)
        seeds = [read_seed("seed_a", seed_a), read_seed("seed_b", seed_b)]
        count = whole("The number of images", count, 2, MAX_FRAMES)
        places = [i / (count - 1) for i in range(count)]
        with plain_errors():
            run = samplers.morph([label] * count, *seeds, places)
        numbers = {"class": pipe.class_names[label], "seeds": seeds, "count": count}
        gif = keep_bytes(animation(run.images), "morph.gif")
        return keep(present.grid(run.images)), gif, numbers | machine(pipe) | run.numbers()


def both(
    samplers: Samplers, request: Request, wanted: Callable[[], bool] = lambda: True,
    crowded: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Run, Run | None]]:
    """The one-step run at once, then again beside each state of the teacher's, and at last both
    with the times of all readings.

    Args:
        samplers: of the model.
        request: what to paint.
        wanted: asked between the readings; False ends it.
        crowded: asked between the readings; with True, one reading of each is enough.
    """
    with plain_errors():
        one, teacher = samplers.one_step(request), None
        yield one, None
        waited = one.wall_seconds
        for teacher in samplers.teacher(request):
            teacher = replace(teacher, wall_seconds=waited + teacher.wall_seconds)
            if not teacher.done:
                yield one, teacher
        clock = None
        if teacher.seconds <= UNSEEN:
            yield one, teacher  # the pictures are finished: the rest is for the clocks
            if not crowded():
                time.sleep(SETTLE)
            for clock in samplers.measure(request, teacher.seconds):
                if not wanted():
                    return
                if crowded():  # the clocks of one visitor are no reason to let others wait
                    break
        if clock is not None:
            one, teacher = one.measured(clock[0]), teacher.measured(clock[1])
        yield one, teacher


def about(samplers: Samplers, request: Request) -> dict[str, Any]:
    """What was asked for, and the machine."""
    asked = {"seed": request.seed, "count": request.count, "classes": request.names}
    return asked | {"settings": request.sampling.keywords()} | machine(samplers.pipe)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a user can cause into one sentence; a defect of ours keeps its traceback."""
    try:
        yield
    except DD2Error as error:
        raise refuse(str(error)) from None
    except torch.OutOfMemoryError:
        raise refuse("Not enough memory on this device: ask for fewer images.") from None
