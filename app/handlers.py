"""Request → sampler → what the page or a program gets back.

The page and the two public endpoints, `/compare` and `/generate`, share the same road; only the
presentation differs: HTML for the page, an image grid and a dict of numbers for programs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import torch

from app import present
from app.picture import keep
from app.requests import ALL_CLASSES, Request, check_sampler, read_request, refuse
from app.runs import Run, Samplers, machine, speedup
from dd2core import DD2Error

ONE_STEP, TEACHER = "One step", "Teacher"  # headings of the panels


class Handlers:
    """The event handlers of one page, bound to its model."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.samplers = Samplers(pipe)

    def compare_page(self, *values: Any) -> Iterator[tuple]:
        """What the Compare button shows: verdict, two panels, footnote, the seed that was used."""
        request = read_request(self.pipe, *values)
        machine_line = present.footnote(machine(self.pipe), request.count)
        drawn = None  # the one-step run whose panel is on the page already
        for one, teacher in self._both(request):
            left = gr.skip() if one is drawn else self.left(one, request.names)
            verdict = (
                present.verdict(one, teacher) if one is not drawn or teacher.done else gr.skip()
            )
            drawn = one
            yield verdict, left, self.right(teacher, request.names), machine_line, request.seed

    def left(self, run: Run | None, names: list[str]) -> str:
        """The one-step panel."""
        return present.panel(ONE_STEP, 1, run, names)

    def right(self, run: Run | None, names: list[str]) -> str:
        """The teacher's panel."""
        return present.panel(TEACHER, self.pipe.teacher.num_steps, run, names)

    def compare(
        self,
        class_name: str = ALL_CLASSES,
        count: int = 8,
        seed: int | None = 0,
        cfg: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Paint the same classes with both samplers, as a stream: the one-step images are in the
        first message, the teacher's grow from message to message. Same arguments, same images.

        Args:
            class_name: name of the class to paint, or "All classes" to walk through them in turn.
            count: how many images, 1 to 64.
            seed: whole number from 0 to 4294967295; null draws one and reports it.
            cfg: the teacher's guidance, 0 to 20; null means the model's default.
            temperature: the teacher's temperature, 0.05 to 5; null means the model's default.
            top_k: keep the teacher's k likeliest codes, 0 keeps all; null is the default.
            top_p: keep the teacher's likeliest codes up to this probability, 0.01 to 1.

        Returns:
            One-step images in one grid.
            The teacher's images so far in one grid; null in the first message.
            Numbers: seed, classes, machine; times and passes of each; speedup (null until done).
        """
        values = (class_name, count, seed, cfg, temperature, top_k, top_p)
        request = read_request(self.pipe, *values)
        for one, teacher in self._both(request):
            numbers = self._numbers(request) | {
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
    ) -> tuple[str, dict[str, Any]]:
        """Paint images with one sampler. Same arguments, same images.

        Args:
            sampler: "one_step" (the distilled model) or "teacher" (token by token).
            class_name: name of the class to paint, or "All classes" to walk through them in turn.
            count: how many images, 1 to 64.
            seed: whole number from 0 to 4294967295; null draws one and reports it.
            cfg: the teacher's guidance, 0 to 20; null means the model's default.
            temperature: the teacher's temperature, 0.05 to 5; null means the model's default.
            top_k: keep the teacher's k likeliest codes, 0 keeps all; null is the default.
            top_p: keep the teacher's likeliest codes up to this probability, 0.01 to 1.

        Returns:
            The images in one grid.
            Numbers: sampler, seed, classes, machine, times and passes.
        """
        check_sampler(sampler)
        values = (class_name, count, seed, cfg, temperature, top_k, top_p)
        request = read_request(self.pipe, *values)
        with _plain_errors():
            if sampler == "one_step":
                run = self.samplers.one_step(request)
            else:
                *_, run = self.samplers.teacher(request, frames=1)
        numbers = {"sampler": sampler} | self._numbers(request) | run.numbers()
        return keep(present.grid(run.images)), numbers

    def _both(self, request: Request) -> Iterator[tuple[Run, Run | None]]:
        """The one-step run at once, then again beside each state of the teacher's."""
        with _plain_errors():
            one = self.samplers.one_step(request)
            yield one, None
            for teacher in self.samplers.teacher(request):
                yield one, teacher

    def _numbers(self, request: Request) -> dict[str, Any]:
        about = {"seed": request.seed, "count": request.count, "classes": request.names}
        return about | {"settings": request.settings} | machine(self.pipe)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what a user can cause into one sentence; a defect of ours keeps its traceback."""
    try:
        yield
    except DD2Error as error:
        raise refuse(str(error)) from None
    except torch.OutOfMemoryError:
        raise refuse("Not enough memory on this device: ask for fewer images.") from None
