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

HARD = 40  # pixels; smaller images are enlarged to hard-edged pixels instead of being smoothed
SMALL = 64  # pixels; larger images are slow on a CPU, and worth another file format
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
    small = " dd2-hard" if image.shape[0] < HARD else ""
    return (
        f'<img class="dd2-tile{small}" alt="{html.escape(text)}" decoding="sync" '
        f'src="{data_uri(image)}">'
    )


def cells(cells: list[str], across: int, narrow: int | None = None) -> str:
    """Tiles in rows of `across`; of `narrow` where there is little room."""
    style = f"--across:{across};--narrow:{narrow or across}"
    return f'<div class="dd2-grid" style="{style}">{"".join(cells)}</div>'


EMPTY = '<div class="dd2-tile"></div>'


def tiles(images: np.ndarray | None, names: list[str], painter: str, veil: str = "") -> str:
    """The images of one panel with their classes, or, before there are any, empty tiles of the
    same size; `veil` lies over each image (`unpainted`)."""
    count = len(names)
    if images is None:
        shots = [EMPTY] * count
    else:
        said = [f"{name}, painted by {painter}, image {i + 1} of {count}"
                for i, name in enumerate(names)]
        shots = [tile(*pair) for pair in zip(images, said, strict=True)]
    figures = [
        f'<figure class="dd2-cell"><div class="dd2-shot">{shot}{veil}</div>'
        f'<figcaption aria-hidden="true">{html.escape(name) or "&nbsp;"}</figcaption></figure>'
        for shot, name in zip(shots, names, strict=True)
    ]
    narrow = 1 if count == 1 else 2 if count <= 8 else 3 if count <= 12 else 4
    return cells(figures, columns(count), narrow)


def unpainted(spans: list[tuple[int, int]], step: int) -> str:
    """What lies over a teacher's image after `step` of its steps: hatching where no token has been
    painted, and a frame around the newest. A scale covers the whole image: there its count of
    tokens is written instead. Empty once all are painted."""
    if not 0 < step < len(spans):
        return ""
    first, stop = spans[step - 1]
    if stop - first > 1 or any(b - a > 1 for a, b in spans):
        side = math.isqrt(stop - first)
        return (f'<i class="dd2-newest" style="inset:0"></i><span class="dd2-scale">'
                f"{side}×{side}</span>")
    side = math.isqrt(spans[-1][1])
    if side * side != spans[-1][1]:
        return ""
    unit = 100 / side  # clipped and moved, never laid out anew: that would be a layout shift
    (row, column), (y, x) = divmod(step - 1, side), divmod(step, side)
    x, upper, lower = x * unit, y * unit, (y + 1) * unit
    rest = (f"{x:.2f}% {upper:.2f}%,100% {upper:.2f}%,100% 100%,0 100%,0 {lower:.2f}%,"
            f"{x:.2f}% {lower:.2f}%")
    return (
        f'<i class="dd2-hatch" style="inset:0;clip-path:polygon({rest})"></i>'
        f'<i class="dd2-newest" style="left:0;top:0;width:{unit:.2f}%;height:{unit:.2f}%;'
        f'transform:translate({100 * column}%,{100 * row}%)"></i>'
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


def panel(
    title: str, steps: int, run: Run | None, names: list[str], veil: str = "", fresh: bool = False
) -> str:
    """Clock and images of one sampler, of which `run` has done some of its steps.

    The large clock is that of the run that was watched and never runs backwards; what was measured
    again stands below it. `fresh` lets the images come in as a moment that one sees.
    """
    images = None if run is None else run.images
    clock = duration(0.0 if run is None else run.watched_seconds)
    again = duration(run.seconds) if run is not None and run.readings else "…"
    look = "dd2-panel dd2-fresh" if fresh else "dd2-panel"
    step = 0 if run is None else run.step
    return (
        f'<section class="{look}" aria-label="{title}" data-step="{step}" data-steps="{steps}" '
        f'data-ms="{0 if run is None else 1000 * run.seconds:.3f}"><h2>{title}'
        f'<span class="dd2-clock">{clock}</span></h2><p class="dd2-again">'
        f'<span class="dd2-steps">{step} of {steps} {"step" if steps == 1 else "steps"}</span>'
        f"<span>measured again without previews: <b>{again}</b></span></p>"
        f"{tiles(images, names, title.lower(), veil)}</section>"
    )


def race(steps: int, one: Run | None, teacher: Run | None) -> str:
    """One line for both: how many of the teacher's passes each has made."""
    done = 0 if teacher is None else teacher.step
    first = "One step: waiting" if one is None else "One step: finished after 1 pass"
    then = f"teacher: pass {done} of {steps}" if done < steps else f"teacher: all {steps} passes"
    flag = "" if one is None else f'<b style="--at:{100 / steps:.2f}%"></b>'
    ready = "" if teacher is not None and teacher.final else " disabled"
    return (
        f'<div class="dd2-race"><div class="dd2-track"><i style="--done:{100 * done / steps:.1f}%">'
        f'</i>{flag}</div><p><span><span class="one">{first}</span> · <span class="two">{then}'
        f'</span></span><button type="button" class="dd2-replay" onclick="dd2.replay()"{ready}>'
        "Replay slowly</button></p></div>"
    )


def costs_of_both(one: Run | None, teacher: Run | None) -> str:
    """What both cost, side by side. The page's script puts the true waiting time in, queue and
    network included; without it, the time since the server began stands there."""
    rows = [
        ("Model", [run and run.model_seconds for run in (one, teacher)], ""),
        ("Decoder", [run.decode_seconds if run and run.done else None for run in (one, teacher)],
         ""),
        ("Half of the readings", [_spread(run) for run in (one, teacher)], ""),
        ("Forward passes", [run and run.passes for run in (one, teacher)], ""),
        ("What you waited, in all", [run.wall_seconds if run and run.done else None
                                     for run in (one, teacher)], "waited"),
    ]
    lines = []
    for term, values, mark in rows:
        cells = "".join(
            f"<td{f' data-{mark}={side}' if mark and value is not None else ''}>{_show(value)}</td>"
            for side, value in zip(("one", "two"), values, strict=True)
        )
        lines.append(f'<tr><th scope="row">{term}</th>{cells}</tr>')
    return (
        '<table class="dd2-cost"><thead><tr><td></td><th scope="col" class="one">One step</th>'
        f'<th scope="col" class="two">Teacher</th></tr></thead><tbody>{"".join(lines)}</tbody>'
        "</table>"
    )


def _spread(run: Run | None) -> str | None:
    if run is None or run.low_seconds is None or run.high_seconds is None:
        return None if run is None or not run.readings else "one reading"
    return f"{duration(run.low_seconds)} to {duration(run.high_seconds)}, of {run.readings}"


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


def _show(value: float | int | str | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int | str) else duration(value)


def duration(seconds: float) -> str:
    """Seconds in the unit a reader needs: 0.0123 → 12.3 ms, 0.123 → 123 ms, 1.5 → 1.50 s."""
    return f"{1000 * seconds:.{int(seconds < 0.1)}f} ms" if seconds < 1 else f"{seconds:.2f} s"


def times(ratio: float) -> str:
    """A ratio with three digits: 1.25×, 11.3×, 238×."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}×"


def verdict(steps: int, one: Run | None, teacher: Run | None) -> str:
    """The answer: nothing yet, under way, or what cannot vary and then the ratio with its
    spread."""
    if one is None:
        return _verdict("", "Press Compare", "and both paint the same classes")
    if teacher is None or not teacher.done:
        return _verdict(RUNNING, "One step is done", "the teacher is still painting")
    head = f"<b>1 pass</b> instead of {teacher.passes}"
    ratio = speedup(one, teacher)
    if ratio["speedup"] is None:
        return _verdict(RUNNING, head, "measuring both again, without previews …")
    word = "faster" if ratio["speedup"] >= 1 else "the teacher’s speed"
    low, high = ratio["speedup_low"], ratio["speedup_high"]
    spread = "the teacher was read once" if low is None or high is None else (
        f"half of the readings: {times(low)} to {times(high)}")
    return _verdict(
        "dd2-done", head,
        f'<span class="dd2-times">{times(ratio["speedup"])}</span> {word} on this machine '
        f"({spread}), decoding included",
    )


def loading() -> str:
    """The verdict while the page's scripts are on their way."""
    return _verdict("", "One step has painted", "the page is being loaded")


def starting() -> str:
    """The verdict between the click and the first image."""
    return _verdict(RUNNING, "Starting", "waiting for a turn on this machine")


def stopped() -> str:
    """The verdict after Stop."""
    return _verdict("", "Stopped", "press Compare to start again")


def refusal(sentence: str) -> str:
    """One sentence at the controls."""
    return f'<p class="dd2-refusal" role="alert">{html.escape(sentence)}</p>' if sentence else ""


def _verdict(look: str, head: str, note: str) -> str:
    return (
        f'<div class="dd2-verdict {look}"><p class="dd2-ratio">{head}</p>'
        f"<p>{note}</p></div>"
    )


def footnote(
    info: dict[str, str | int], count: int, one: Run | None = None, teacher: Run | None = None,
    shown: str = "",
) -> str:
    """What the clocks were read on, and what is `shown`; each sampler has the CPU threads that
    suit it."""
    threads = f"{info['threads']} CPU thread{'' if info['threads'] == 1 else 's'}"
    used = {run.threads for run in (one, teacher) if run}
    if one and teacher and used != {info["threads"]}:
        threads += f" (one step {one.threads}, teacher {teacher.threads}: faster so)"
    parts = [shown, info["model"], info["device"], info["dtype"], f"batch of {count}", threads]
    said = " · ".join(html.escape(str(part)) for part in parts if part)
    return f'<p class="dd2-machine">{said}</p>'
