"""A moving picture of the race: the teacher paints, its newest token outlined and what is not
painted hatched; one step is there at once; both clocks run, slowed down alike."""

import io
import math
from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dd2core.pipeline import Pipeline
from dd2core.teacher import Span
from dd2core.tools.images import grid_image, zoom_to
from train.measure.stream import balanced

COUNT, COLUMNS, SEED = 10, 5, 3  # images on each side
SIDE = 72  # least side of an image, in pixels
GAP, TOP = 4, 44  # pixels between images; of the title above them
ROUNDS = 5  # of both samplers; the median time counts
LENGTH = 5.0  # seconds that the teacher takes in the movie
SEEN = 0.6  # seconds of the movie for which the one-step images are framed as they come
HOLD_MS = 2500  # the last frame
COLOURS = {1: 64, 3: 256}  # of the file, by channels of the images
INK, TEAL, OCHRE, RAIL, GREY = "#1e293b", "#0d9488", "#b45309", "#e2e8f0", "#64748b"
PAPER = "#f1f5f9"  # under the hatching


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


def hatching(side: int) -> Image.Image:
    """What stands where nothing is painted yet."""
    tile = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(tile)
    for x in range(-side, side, 7):
        draw.line((x, side, x + side, 0), "#cbd5e1")
    return tile


def veiled(tile: Image.Image, spans: list[Span], step: int) -> Image.Image:
    """A teacher's image after `step` of its steps: hatched where no token is, the newest token, or
    scale, in a frame. Finished ones as they are."""
    if step >= len(spans):
        return tile
    side, out = tile.width, tile.copy()
    if step == 0:
        return hatching(side)
    across = math.isqrt(len(spans))
    single = all(isinstance(s, tuple) and s[1] - s[0] == 1 for s in spans)
    draw = ImageDraw.Draw(out)
    if not single or across**2 != len(spans):  # a scale covers the whole image
        draw.rectangle((0, 0, side - 1, side - 1), outline=OCHRE, width=3)
        return out
    edge = [round(i * side / across) for i in range(across + 1)]
    row, column = divmod(step, across)
    rest = Image.new("1", (side, side))
    mask = ImageDraw.Draw(rest)
    mask.rectangle((edge[column], edge[row], side, edge[row + 1] - 1), fill=1)
    if row + 1 < across:
        mask.rectangle((0, edge[row + 1], side, side), fill=1)
    out.paste(hatching(side), (0, 0), rest)
    row, column = divmod(step - 1, across)
    box = (edge[column], edge[row], edge[column + 1] - 1, edge[row + 1] - 1)
    draw.rectangle(box, outline=OCHRE, width=2)
    return out


def panel(title: str, colour: str, now: float, latest: Progress | None, end: Progress,
          spans: list[Span] | None = None, framed: bool = False) -> Image.Image:
    """One side at `now` seconds: title and clock, how far it is, the images.

    Args:
        title (str): of the sampler.
        colour (str): of its clock, rail and frame.
        now (float): seconds since the start; the clock stops at the end.
        latest (Progress | None): what is there; None before the first.
        end (Progress): the last.
        spans (list[Span] | None): tokens of each of the teacher's steps; None for one step.
        framed (bool): draw a frame around the images.
    """
    step = 0 if latest is None else latest.step
    images = end.images if latest is None else latest.images
    zoom = zoom_to(images, SIDE)
    out = Image.fromarray(grid_image(images, COLUMNS, GAP, zoom))
    side = images.shape[1] * zoom
    for i in range(len(images)):
        place = (i % COLUMNS * (side + GAP), i // COLUMNS * (side + GAP))
        box = (*place, place[0] + side, place[1] + side)
        out.paste(veiled(out.crop(box), spans or [(0, 1)], step), place)
    if framed:
        ImageDraw.Draw(out).rectangle((0, 0, out.width - 1, out.height - 1), outline=colour,
                                      width=4)
    whole = Image.new("RGB", (out.width, out.height + TOP), "white")
    whole.paste(out, (0, TOP))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(18)
    draw.text((0, 8), title, INK, font)
    clock = f"{1e3 * min(now, end.seconds):.0f} ms"
    draw.text((out.width, 8), clock, colour, font, anchor="ra")
    draw.rectangle((0, 35, out.width, 38), RAIL)
    if step:
        draw.rectangle((0, 35, out.width * step // end.steps, 38), colour)
    return whole


def frames(one: Progress, teacher: list[Progress], spans: list[Span]
           ) -> tuple[list[Image.Image], list[int]]:
    """The frames and how long each lasts, in milliseconds.

    Args:
        one (Progress): the one-step images.
        teacher (list[Progress]): after every step.
        spans (list[Span]): tokens of each of the teacher's steps.
    """
    slow, end = LENGTH / teacher[-1].seconds, teacher[-1]
    seen = one.seconds + SEEN / slow
    moments = sorted({0.0, one.seconds, *(p.seconds for p in teacher),
                      *([seen] if seen < end.seconds else [])})
    pace = f"slow motion, {_count(slow)} times slower" if slow >= 1 else \
        f"shown {_count(1 / slow)} times faster than it was"
    note = (f"{pace}; {len(one.images)} images at once, decoding included: "
            f"{end.seconds / one.seconds:.1f} times as fast")
    pictures, milliseconds = [], []
    for now, after in zip(moments, [*moments[1:], None], strict=True):
        done = [p for p in teacher if p.seconds <= now]
        left = panel("DD2: one pass", TEAL, now, one if now >= one.seconds else None, one,
                     framed=one.seconds <= now < seen)
        right = panel(f"AR teacher: {end.steps} passes", OCHRE, now, done[-1] if done else None,
                      end, spans)
        picture = Image.new("RGB", (2 * left.width + 32, left.height + 30), "white")
        picture.paste(left, (0, 0))
        picture.paste(right, (left.width + 32, 0))
        ImageDraw.Draw(picture).text((picture.width // 2, left.height + 8), note, GREY,
                                     ImageFont.load_default(14), anchor="ma")
        pictures.append(picture)
        milliseconds.append(
            HOLD_MS if after is None else max(20, round(1e3 * slow * (after - now))))
    return pictures, milliseconds


def _count(times: float) -> str:
    return f"{times:.0f}" if times >= 10 else f"{times:.1f}"


def movie(pictures: list[Image.Image], milliseconds: list[int], channels: int) -> bytes:
    """The file, which goes round for ever.

    Args:
        pictures (list[Image.Image]): RGB, of one size.
        milliseconds (list[int]): that each stays.
        channels (int): of the images in them, 1 or 3; colours take a larger palette.
    """
    # One palette for all frames, of the middle and the last: what is unchanged costs nothing.
    width, height = pictures[0].size
    both = Image.new("RGB", (width, 2 * height))
    for i, picture in enumerate((pictures[len(pictures) // 2], pictures[-1])):
        both.paste(picture, (0, i * height))
    palette = both.quantize(COLOURS[channels])
    small = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    data = io.BytesIO()
    small[0].save(data, "GIF", save_all=True, append_images=small[1:], duration=milliseconds,
                  loop=0, optimize=True)
    return data.getvalue()


def race(pipe: Pipeline) -> tuple[bytes, Progress, Progress]:
    """Record both samplers of a pipeline: the file, and both at their ends."""
    one, teacher = record(pipe, balanced(COUNT, len(pipe.class_names)).tolist())
    channels = one.images.shape[-1]
    return movie(*frames(one, teacher, pipe.teacher.spans), channels), one, teacher[-1]
