"""Pictures, clocks, bars and the verdict as HTML; the grid as an image for programs.

The page shows its own `<img>` tiles instead of Gradio's image component: they carry a text each,
keep their place while the teacher paints (no layout jump) and scale up without blur.
"""

import base64
import html
import io
import math

import numpy as np
from PIL import Image

from app.serve.runs import Run, speedup
from dd2core.tools.images import as_pillow, grid_image, zoom_to

SMALL = 64  # pixels; below it images are enlarged to hard-edged pixels instead of being smoothed
TILE = 112  # least side of an image in a grid for programs, in pixels
GAP = 4  # between images of that grid, in pixels
RUNNING = "dd2-running"  # marks the verdict while the teacher paints


def columns(count: int) -> int:
    """Images in a row: 8 → 4, 9 → 3, 16 → 4, so that a panel is about as wide as high."""
    return 4 if count in (7, 8) else math.ceil(math.sqrt(count))


def grid(images: np.ndarray) -> Image.Image:
    """(B, H, W, C) → one RGB image, row by row, enlarged by whole factors."""
    zoom = zoom_to(images, TILE)
    return Image.fromarray(grid_image(images, columns(len(images)), GAP, zoom))


def tile(image: np.ndarray, text: str) -> str:
    """One image with its alternative text."""
    small = " dd2-hard" if image.shape[0] < SMALL else ""
    return (
        f'<img class="dd2-tile{small}" alt="{html.escape(text)}" decoding="sync" '
        f'src="{data_uri(image)}">'
    )


def cells(cells: list[str], across: int) -> str:
    """Tiles in rows of `across`."""
    return f'<div class="dd2-grid" style="--across:{across}">{"".join(cells)}</div>'


EMPTY = '<div class="dd2-tile"></div>'


def tiles(images: np.ndarray | None, names: list[str], painter: str) -> str:
    """The images of one panel, or, before there are any, empty tiles of the same size."""
    said = [f"{name}, painted by {painter}, image {i + 1} of {len(names)}"
            for i, name in enumerate(names)]
    if images is None:
        return cells([EMPTY] * len(names), columns(len(names)))
    return cells([tile(*pair) for pair in zip(images, said, strict=True)], columns(len(names)))


def overlay(one: np.ndarray | None, teacher: np.ndarray | None, names: list[str]) -> str:
    """Both samplers' images one on the other; a slider says how much of the upper is seen."""
    if one is None or teacher is None:
        return '<p class="dd2-note">There is something to lay over once both have painted.</p>'
    below = [tile(image, f"{name}, by the teacher, below")
             for image, name in zip(teacher, names, strict=True)]
    above = [tile(image, f"{name}, by one step, above")
             for image, name in zip(one, names, strict=True)]
    stacks = [f'<div class="dd2-stack">{b}{a}</div>' for b, a in zip(below, above, strict=True)]
    return (
        f'<div class="dd2-overlay" style="--cut:50%">{cells(stacks, columns(len(names)))}'
        '<label><span>Teacher</span><input type="range" min="0" max="100" value="50" '
        'aria-label="How much of the one-step images is seen" '
        'oninput="dd2.cut(this)"><span>One step</span></label></div>'
    )


def data_uri(image: np.ndarray) -> str:
    """PNG for small images; WebP for large ones, which are sent many times while streaming."""
    kind, options = ("png", {}) if image.shape[0] < SMALL else ("webp", {"quality": 92})
    data = io.BytesIO()
    as_pillow(image).save(data, kind, **options)
    return as_uri(data.getvalue(), kind)


def as_uri(data: bytes, kind: str) -> str:
    """An image file as the address of itself."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def panel(title: str, steps: int, run: Run | None, names: list[str]) -> str:
    """Clock, images and costs of one sampler, of which `run` has done some of its steps."""
    images = None if run is None else run.images
    clock = duration(0.0 if run is None else run.seconds)
    return (
        f'<section class="dd2-panel" aria-label="{title}"><h2>{title}<span class="dd2-clock">'
        f"{clock}</span></h2>{_progress(run, steps)}"
        f"{tiles(images, names, title.lower())}{costs(run)}</section>"
    )


def _progress(run: Run | None, steps: int) -> str:
    done = 0 if run is None else run.step
    word = "step" if steps == 1 else "steps"
    return (
        f'<p class="dd2-progress"><i style="--done:{100 * done / steps:.0f}%"></i>'
        f"<small>{done} of {steps} {word}</small></p>"
    )


def costs(run: Run | None) -> str:
    """What a sampler cost so far, as a list of terms."""
    rows = [
        ("Model", run and run.model_seconds),
        ("Decoder", run.decode_seconds if run and run.done else None),
        ("Forward passes", run and run.passes),
        ("Wall clock", run and run.wall_seconds),
    ]
    rows = [f"<div><dt>{term}</dt><dd>{_show(value)}</dd></div>" for term, value in rows]
    return f'<dl class="dd2-costs">{"".join(rows)}</dl>'


def bars(one: Run | None, teacher: Run | None) -> str:
    """Time and passes of both, to one scale each."""
    runs = [run if run and run.done else None for run in (one, teacher)]
    groups = (
        ("Time, decoding included", [run and run.seconds for run in runs]),
        ("Forward passes, one after the other", [run and run.passes for run in runs]),
    )
    return f'<div class="dd2-bars">{"".join(_bar_group(*group) for group in groups)}</div>'


def _bar_group(title: str, values: list[float | int | None]) -> str:
    most = max((value for value in values if value is not None), default=1)
    rows = []
    for name, look, value in zip(("One step", "Teacher"), ("one", "two"), values, strict=True):
        share = 0 if value is None else 100 * value / most
        rows.append(
            f'<div class="{look}"><dt>{name}</dt><dd><i style="--share:{share:.1f}%"></i>'
            f"<span>{_show(value)}</span></dd></div>"
        )
    return f'<figure><figcaption>{title}</figcaption><dl>{"".join(rows)}</dl></figure>'


def _show(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else duration(value)


def duration(seconds: float) -> str:
    """Seconds in the unit a reader needs: 0.0123 → 12.3 ms, 1.5 → 1.50 s."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def times(ratio: float) -> str:
    """A ratio with three digits: 1.25×, 11.3×, 238×."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}×"


def verdict(one: Run | None, teacher: Run | None) -> str:
    """The answer in one line: nothing yet, under way, or the ratio."""
    if one is None:
        return _verdict("", "Press Compare", "and both paint the same classes")
    ratio = speedup(one, teacher)
    if ratio["speedup"] is None:
        return _verdict(RUNNING, "One step is done", "the teacher is still painting")
    word = "faster" if ratio["speedup"] >= 1 else "the teacher’s speed"
    return _verdict(
        "dd2-done",
        f"<b>{times(ratio['speedup'])}</b> {word}",
        f"decoding included; {times(ratio['speedup_model'])} for the model alone",
    )


def stopped(shown: str) -> str:
    """The verdict after Stop, which changes nothing where nothing is running."""
    if RUNNING not in shown:
        return shown
    return _verdict("", "Stopped", "press Compare to start again")


def _verdict(look: str, head: str, note: str) -> str:
    return (
        f'<div class="dd2-verdict {look}"><p class="dd2-ratio">{head}</p>'
        f"<p>{note}</p></div>"
    )


def footnote(
    info: dict[str, str | int], count: int, one: Run | None = None, teacher: Run | None = None
) -> str:
    """What the clocks were read on; each sampler has the CPU threads that suit it."""
    threads = f"{info['threads']} CPU thread{'' if info['threads'] == 1 else 's'}"
    used = {run.threads for run in (one, teacher) if run}
    if one and teacher and used != {info["threads"]}:
        threads += f" (one step {one.threads}, teacher {teacher.threads}: faster so)"
    parts = [info["model"], info["device"], info["dtype"], f"batch of {count}", threads]
    return f'<p class="dd2-machine">{" · ".join(html.escape(str(part)) for part in parts)}</p>'
