"""A moving picture of both samplers at work: times, panels, frames."""

import io
from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dd2core.pipeline import Pipeline
from dd2core.tools.images import grid_image

COUNT, COLUMNS, SEED = 10, 5, 3  # images on each side
SIDE = 72  # least side of an image, in pixels
ROUNDS = 5
LENGTH = 5.0  # seconds that the teacher takes in the movie
HOLD_MS = 2500  # the last frame
INK, TEAL, OCHRE, RAIL = "#1e293b", "#0d9488", "#b45309", "#e2e8f0"


@dataclass(frozen=True)
class Painting:
    """What a sampler has painted, `seconds` after its start, after `step` of `steps` passes."""

    images: np.ndarray
    seconds: float
    step: int
    steps: int


def record(pipe: Pipeline, labels: list[int]) -> tuple[Painting, list[Painting]]:
    """The one-step painting, and the teacher's after every step, at median times."""
    ones, walks = [], []
    for _ in range(ROUNDS):
        ones.append(pipe.sample_one_step(labels, SEED))
        walks.append(list(pipe.stream_teacher(labels, SEED)))
    seconds = median(s.seconds + s.decode_seconds for s in ones)
    # A preview's decoding is for the eye: only the last image's counts.
    decoding = median(walk[-1].decode_seconds for walk in walks)
    paintings = []
    for parts in zip(*walks, strict=True):
        last, p = parts[0].step == parts[0].steps, parts[0]
        took = median(part.seconds for part in parts) + (decoding if last else 0.0)
        paintings.append(Painting(p.images, took, p.step, p.steps))
    return Painting(ones[0].images, seconds, 1, 1), paintings


def panel(title: str, colour: str, now: float, seen: Painting | None, end: Painting) -> Image.Image:
    """One side at `now` seconds: title and clock, how far it is, the images.

    Args:
        title (str): of the sampler.
        colour (str): of its clock and rail.
        now (float): seconds since the start; the clock stops at the end.
        seen (Painting | None): the latest; None before the first.
        end (Painting): the last.
    """
    blank = np.zeros_like(end.images)
    zoom = -(-SIDE // min(end.images.shape[1:3]))
    grid = Image.fromarray(grid_image(blank if seen is None else seen.images, COLUMNS, 4, zoom))
    out = Image.new("RGB", (grid.width, grid.height + 44), "white")
    out.paste(grid, (0, 44))
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(18)
    draw.text((0, 8), title, INK, font)
    clock = f"{1e3 * min(now, end.seconds):.0f} ms"
    draw.text((grid.width, 8), clock, colour, font, anchor="ra")
    draw.rectangle((0, 35, grid.width, 38), RAIL)
    if seen is not None:
        draw.rectangle((0, 35, grid.width * seen.step // end.steps, 38), colour)
    return out


def frames(one: Painting, teacher: list[Painting]) -> tuple[list[Image.Image], list[int]]:
    """The frames and how long each lasts, in milliseconds."""
    slow, end = LENGTH / teacher[-1].seconds, teacher[-1]
    moments = sorted({0.0, one.seconds, *(p.seconds for p in teacher)})
    note = (f"slowed down {slow:.0f} times; {len(one.images)} images at once, decoding included: "
            f"{end.seconds / one.seconds:.1f} times as fast")
    pictures, lasts = [], []
    for now, after in zip(moments, [*moments[1:], None], strict=True):
        done = [p for p in teacher if p.seconds <= now]
        left = panel("DD2: one pass", TEAL, now, one if now >= one.seconds else None, one)
        right = panel(f"AR teacher: {end.steps} passes", OCHRE, now, done[-1] if done else None,
                      end)
        picture = Image.new("RGB", (2 * left.width + 32, left.height + 30), "white")
        picture.paste(left, (0, 0))
        picture.paste(right, (left.width + 32, 0))
        ImageDraw.Draw(picture).text((picture.width // 2, left.height + 8), note, "#64748b",
                                     ImageFont.load_default(14), anchor="ma")
        pictures.append(picture)
        lasts.append(HOLD_MS if after is None else max(20, round(1e3 * slow * (after - now))))
    return pictures, lasts


def as_gif(pictures: list[Image.Image], lasts: list[int]) -> bytes:
    """An endless GIF, in the colours of its last frame."""
    palette = pictures[-1].quantize(64)
    few = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    data = io.BytesIO()
    few[0].save(data, "gif", save_all=True, append_images=few[1:], duration=lasts, loop=0)
    return data.getvalue()
