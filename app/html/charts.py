"""Small charts as inline SVG: they take the page's colours, light or dark, and need no library.

A chart is an image to a screen reader: it has a title and a sentence that says what it shows.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

WIDTH, HEIGHT = 360, 230  # of the view box; a column of the page is about as wide
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44  # margins around the plotted area
_numbers = count()  # ids are unique on the page


@dataclass(frozen=True)
class Line:
    """One line of a chart; `look` is a CSS class: one, two, three or quiet."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    look: str = "one"
    dots: bool = False
    dash: bool = False
    bare: bool = False  # the dots alone


@dataclass(frozen=True)
class Mark:
    """A point that stands out."""

    name: str
    x: float
    y: float
    look: str = "one"
    shape: str = "dot"  # dot or cross


@dataclass(frozen=True)
class Axes:
    """Ranges of x and y, and what stands beside them."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str

    def right(self, x: float) -> float:
        """Where x is, in the view box."""
        low, high = self.x
        return LEFT + (x - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        """Where y is, in the view box."""
        low, high = self.y
        return HEIGHT - BOTTOM - (y - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)


@dataclass(frozen=True)
class Chart:
    """What `draw` draws, from back to front: dust, bars, lines, marks."""

    title: str
    says: str  # the chart in one sentence, for those who cannot see it
    axes: Axes
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    dust: Sequence[tuple[float, float, float]] = ()  # x, y and radius of faint circles
    bars: Sequence[float] = ()  # heights at x = 1, 2, …
    lit: int | None = None  # the bar that stands out, from 0
    upright: float | None = None  # x of a vertical line
    note: str = field(default="")  # a sentence under the chart


def around(*values: Sequence[float], zero: bool = False) -> tuple[float, float]:
    """A range that holds all the numbers, with some air."""
    finite = [v for group in values for v in group if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    air = 0.06 * (high - low) or 0.5
    return (low if zero and low == 0 else low - air, high + air)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers in [low, high], about `most` of them."""
    raw = (high - low) / most
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number for an axis: 0.25, 12, 1.5k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{round(value, 6):g}"


def draw(chart: Chart) -> str:
    """The chart with its title, legend and note, as a `<figure>`."""
    number = next(_numbers)
    inside = "".join(
        (_grid(chart.axes), _dust(chart, number), _bars(chart), _upright(chart),
         _lines(chart, number), _marks(chart))
    )
    title, says = html.escape(chart.title), html.escape(chart.says)
    note = f'<p class="dd2-note">{indices(chart.note)}</p>' if chart.note else ""
    return (
        f'<figure class="dd2-chart"><figcaption>{title}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}: {says}">'
        f'<clipPath id="dd2-clip-{number}"><rect x="{LEFT}" y="{TOP - 4}" '
        f'width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM + 8}"/></clipPath>'
        f"{inside}</svg>{_legend(chart)}{note}</figure>"
    )


def indices(text: str) -> str:
    """Text as HTML, with D_Φ and x_0 set as they are in formulas."""
    return re.sub(r"\b([Dx])_(\w)", r"\1<sub>\2</sub>", html.escape(text))


def _grid(axes: Axes) -> str:
    parts = []
    for y in ticks(*axes.y, 4):
        at = axes.down(y)
        parts.append(f'<path class="g" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{short(y)}</text>')
    for x in ticks(*axes.x, 5):
        at = axes.right(x)
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(x)}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="l" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{html.escape(axes.x_label)}</text>'
        f'<text class="l" transform="translate(12 {middle}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(axes.y_label)}</text>'
    )
    return "".join(parts)


def _dust(chart: Chart, number: int) -> str:
    a = chart.axes
    circles = "".join(
        f'<circle class="dust" cx="{a.right(x):.1f}" cy="{a.down(y):.1f}" r="{r:.1f}"/>'
        for x, y, r in chart.dust
    )
    return f'<g clip-path="url(#dd2-clip-{number})">{circles}</g>' if circles else ""


def _bars(chart: Chart) -> str:
    a, parts = chart.axes, []
    wide = 0.72 * (a.right(1) - a.right(0))
    for i, value in enumerate(chart.bars):
        top, floor = a.down(value), a.down(max(0.0, a.y[0]))
        look = "bar lit" if i == chart.lit else "bar"
        parts.append(
            f'<rect class="{look}" x="{a.right(i + 1) - wide / 2:.1f}" y="{top:.1f}" '
            f'width="{wide:.1f}" height="{max(0.0, floor - top):.1f}" rx="1"/>'
        )
    return "".join(parts)


def _upright(chart: Chart) -> str:
    if chart.upright is None:
        return ""
    return f'<path class="up" d="M{chart.axes.right(chart.upright):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'


def _lines(chart: Chart, number: int) -> str:
    a, parts = chart.axes, []
    for line in chart.lines:
        at = [(a.right(x), a.down(y)) for x, y in zip(line.x, line.y, strict=True)
              if math.isfinite(y)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at) if at else "M0 0"
        dash = ' stroke-dasharray="5 4"' if line.dash else ""
        if not line.bare:
            parts.append(f'<path class="line {line.look}" d="{path}"{dash}/>')
        if line.dots or line.bare:
            parts += [f'<circle class="dot {line.look}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
                      for x, y in at]
    return f'<g clip-path="url(#dd2-clip-{number})">{"".join(parts)}</g>'


def _marks(chart: Chart) -> str:
    a, parts = chart.axes, []
    for mark in chart.marks:
        x, y = a.right(mark.x), a.down(mark.y)
        if mark.shape == "cross":
            parts.append(f'<path class="line {mark.look}" d="M{x - 5:.1f} {y - 5:.1f}l10 10'
                         f'm0-10l-10 10"/>')
        else:
            parts.append(f'<circle class="dot {mark.look}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    return "".join(parts)


def _legend(chart: Chart) -> str:
    lines = [(line.name, line.look, "dot" if line.bare else "line") for line in chart.lines]
    marks = [(mark.name, mark.look, mark.shape) for mark in chart.marks]
    named = dict.fromkeys(key for key in lines + marks if key[0])
    if not named:
        return ""
    keys = "".join(f'<li class="{look} {shape}"><span>{indices(name)}</span></li>'
                   for name, look, shape in named)
    return f'<ul class="dd2-legend" aria-hidden="true">{keys}</ul>'


def equal_axes(x: np.ndarray, y: np.ndarray, x_label: str, y_label: str) -> Axes:
    """Axes around points on which a unit is as long across as up."""
    (left, right), (low, high) = around(x.tolist()), around(y.tolist())
    across = (WIDTH - LEFT - RIGHT) / (HEIGHT - TOP - BOTTOM)
    tall = max(high - low, (right - left) / across)
    middle_x, middle_y = (left + right) / 2, (low + high) / 2
    return Axes(
        (middle_x - tall * across / 2, middle_x + tall * across / 2),
        (middle_y - tall / 2, middle_y + tall / 2), x_label, y_label,
    )


def side_by_side(*charts: Chart, large: bool = False) -> str:
    """Charts in as many columns as there is room for; `large` ones in two at most."""
    look = "dd2-charts dd2-large" if large else "dd2-charts"
    return f'<div class="{look}">{"".join(map(draw, charts))}</div>'
