"""Pictures, captions and the verdict as HTML; the grid as an image for programs.

The page shows its own `<img>` tiles instead of Gradio's image component: they carry a text each,
keep their place while the teacher paints (no layout jump) and scale up without blur.
"""

import base64
import html
import io
import math

import numpy as np
from PIL import Image

from app.runs import Run, speedup

SMALL = 64  # pixels; below it images are enlarged to hard-edged pixels instead of being smoothed
TILE = 112  # least side of an image in a grid for programs, in pixels
GAP = 4  # between images of that grid, in pixels
RUNNING = "dd2-running"  # marks the verdict while the teacher paints


def picture(image: np.ndarray) -> Image.Image:
    """uint8 (H, W, 1 or 3) → a Pillow image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def columns(count: int) -> int:
    """Images in a row: 8 → 4, 9 → 3, 16 → 4, so that a panel is about as wide as high."""
    return 4 if count in (7, 8) else math.ceil(math.sqrt(count))


def grid(images: np.ndarray) -> Image.Image:
    """(B, H, W, C) → one RGB image, row by row, enlarged by whole factors."""
    count, height, width = images.shape[:3]
    across = columns(count)
    factor = max(1, math.ceil(TILE / min(height, width)))
    height, width = height * factor, width * factor
    down = math.ceil(count / across)
    size = (across * (width + GAP) - GAP, down * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for i, image in enumerate(images):
        tile = picture(image).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (i % across * (width + GAP), i // across * (height + GAP)))
    return sheet


def tiles(images: np.ndarray | None, names: list[str], painter: str) -> str:
    """The images of one panel, or, before there are any, empty tiles of the same size."""
    cells = []
    for i, name in enumerate(names):
        if images is None:
            cells.append('<div class="dd2-tile"></div>')
            continue
        text = html.escape(f"{name}, painted by {painter}, image {i + 1} of {len(names)}")
        cells.append(f'<img class="dd2-tile" alt="{text}" src="{_data_uri(images[i])}">')
    small = images is not None and images.shape[1] < SMALL
    look = "dd2-grid dd2-small" if small else "dd2-grid"
    return f'<div class="{look}" style="--across:{columns(len(names))}">{"".join(cells)}</div>'


def _data_uri(image: np.ndarray) -> str:
    """PNG for small images; WebP for large ones, which are sent many times while streaming."""
    kind, options = ("png", {}) if image.shape[0] < SMALL else ("webp", {"quality": 92})
    data = io.BytesIO()
    picture(image).save(data, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def panel(title: str, steps: int, run: Run | None, names: list[str]) -> str:
    """Heading, images and costs of one sampler, of which `run` has done some of its steps."""
    images = None if run is None else run.images
    return (
        f'<section class="dd2-panel" aria-label="{title}"><h2>{title}{_progress(run, steps)}</h2>'
        f"{tiles(images, names, title.lower())}{costs(run)}</section>"
    )


def _progress(run: Run | None, steps: int) -> str:
    done = 0 if run is None else run.step
    word = "step" if steps == 1 else "steps"
    return (
        f"<small>{done} of {steps} {word}</small>"
        f'<i class="dd2-bar" style="--done:{100 * done / steps:.0f}%"></i>'
    )


def costs(run: Run | None) -> str:
    """What a sampler cost so far, as a list of terms."""
    rows = [
        ("Time", "dd2-main", run and run.seconds),
        ("of it, model", "", run and run.model_seconds),
        ("of it, decoder", "", run.decode_seconds if run and run.done else None),
        ("Forward passes", "dd2-main", run and run.passes),
        ("Wall clock", "", run and run.wall_seconds),
    ]
    cells = "".join(
        f'<div class="{look}"><dt>{term}</dt><dd>{_show(value)}</dd></div>'
        for term, look, value in rows
    )
    return f'<dl class="dd2-costs">{cells}</dl>'


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
        f'<div class="dd2-verdict {look}" role="status"><p class="dd2-ratio">{head}</p>'
        f"<p>{note}</p></div>"
    )


def footnote(info: dict[str, str | int], count: int) -> str:
    """What the clocks were read on."""
    threads = f"{info['threads']} CPU thread{'' if info['threads'] == 1 else 's'}"
    parts = [info["model"], info["device"], info["dtype"], f"batch of {count}", threads]
    return f'<p class="dd2-machine">{" · ".join(html.escape(str(part)) for part in parts)}</p>'
