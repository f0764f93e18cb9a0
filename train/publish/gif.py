"""A moving picture of both samplers at work: times, panels, frames."""

from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dd2core.pipeline import Pipeline
from dd2core.tools.images import grid_image, zoom_to

COUNT, COLUMNS, SEED = 10, 5, 3  # images on each side
SIDE = 72  # least side of an image, in pixels
ROUNDS = 5  # of both samplers; the median time counts
LENGTH = 5.0  # seconds that the teacher takes in the movie
HOLD_MS = 2500  # the last frame
COLOURS = 64  # of the file
INK, TEAL, OCHRE, RAIL, GREY = "#1e293b", "#0d9488", "#b45309", "#e2e8f0", "#64748b"


@dataclass(frozen=True)
class Progress:
    """A sampler's images (n, H, W, C), uint8, `seconds` after its start, after `step` of `steps`
    passes."""

    images: np.ndarray
    seconds: float
    step: int
    steps: int


def record(pipe: Pipeline, labels: list[int]) -> tuple[Progress, list[Progress]]:
    """The one-step generator at its end, and the teacher after every step, at median times."""
    one_step, teacher = [], []
    for _ in range(ROUNDS):
        one_step.append(pipe.sample_one_step(labels, SEED))
        teacher.append(list(pipe.stream_teacher(labels, SEED)))
    seconds = median(s.seconds + s.decode_seconds for s in one_step)
    # A preview's decoding is for the eye: only the last image's counts.
    decoding = median(parts[-1].decode_seconds for parts in teacher)
    progress = []
    for parts in zip(*teacher, strict=True):  # one step of all rounds
        p = parts[0]
        took = median(part.seconds for part in parts) + (decoding if p.step == p.steps else 0.0)
        progress.append(Progress(p.images, took, p.step, p.steps))
    return Progress(one_step[0].images, seconds, 1, 1), progress


def panel(title: str, colour: str, now: float, latest: Progress | None, end: Progress
          ) -> Image.Image:
    """One side at `now` seconds: title and clock, how far it is, the images.

    Args:
        title (str): of the sampler.
        colour (str): of its clock and rail.
        now (float): seconds since the start; the clock stops at the end.
        latest (Progress | None): what is there; None before the first.
        end (Progress): the last.
    """
    images = np.zeros_like(end.images) if latest is None else latest.images
    grid = Image.fromarray(grid_image(images, COLUMNS, 4, zoom_to(images, SIDE)))
    out = Image.new("RGB", (grid.width, grid.height + 44), "white")
    out.paste(grid, (0, 44))
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(18)
    draw.text((0, 8), title, INK, font)
    clock = f"{1e3 * min(now, end.seconds):.0f} ms"
    draw.text((grid.width, 8), clock, colour, font, anchor="ra")
    draw.rectangle((0, 35, grid.width, 38), RAIL)
    if latest is not None:
        draw.rectangle((0, 35, grid.width * latest.step // end.steps, 38), colour)
    return out


def frames(one: Progress, teacher: list[Progress]) -> tuple[list[Image.Image], list[int]]:
    """The frames and how long each lasts, in milliseconds."""
    slow, end = LENGTH / teacher[-1].seconds, teacher[-1]
    moments = sorted({0.0, one.seconds, *(p.seconds for p in teacher)})
    note = (f"slowed down {slow:.0f} times; {len(one.images)} images at once, decoding included: "
            f"{end.seconds / one.seconds:.1f} times as fast")
    pictures, milliseconds = [], []
    for now, after in zip(moments, [*moments[1:], None], strict=True):
        done = [p for p in teacher if p.seconds <= now]
        left = panel("DD2: one pass", TEAL, now, one if now >= one.seconds else None, one)
        right = panel(f"AR teacher: {end.steps} passes", OCHRE, now, done[-1] if done else None,
                      end)
        picture = Image.new("RGB", (2 * left.width + 32, left.height + 30), "white")
        picture.paste(left, (0, 0))
        picture.paste(right, (left.width + 32, 0))
        ImageDraw.Draw(picture).text((picture.width // 2, left.height + 8), note, GREY,
                                     ImageFont.load_default(14), anchor="ma")
        pictures.append(picture)
        milliseconds.append(
            HOLD_MS if after is None else max(20, round(1e3 * slow * (after - now))))
    return pictures, milliseconds
