"""What was measured and logged when a model was trained, read from its folder.

`results/*.json` and `results/*.png` are written by `train.evaluate` and `train.benchmark`,
`logs/*.jsonl` by the stages of training. Files that are missing or damaged are left out.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dd2core.results.collection import Results, load_results
from dd2core.results.schema import Measurement
from dd2core.results.tables import few_steps
from dd2core.results.training import logs_in_order


@dataclass(frozen=True)
class Grid:
    """A sample grid with what was measured on those samples."""

    name: str
    path: Path
    measurement: Measurement
    is_presets_teacher: bool


def results_of(pipe: Any) -> Results | None:
    """What was measured of a model, if it has results."""
    folder = pipe.model.folder
    if not folder or not (folder / "results").is_dir():
        return None
    return load_results(folder / "results", skip_damaged=True)


def refine_curve(results: Results | None) -> tuple[list[tuple[int, float]], float | None, set[int]]:
    """(passes, FD) of few-step sampling, in order; the teacher's FD; the counts of samples. One
    step alone is the curve's first point."""
    rows = few_steps(results) if results else []
    teacher = next((m.fd for _, name, m in rows if name == "teacher"), None)
    curve = [m for _, name, m in rows if name != "teacher"]
    if all(m.table != "refine" for m in curve):  # one step alone is no curve
        return [], teacher, set()
    points = {m.passes: m.fd for m in curve}
    return sorted(points.items()), teacher, {m.n for m in curve}


def interpolated(curve: list[tuple[int, float]], passes: int) -> float | None:
    """FD between the measured points; None outside them."""
    if not curve or not curve[0][0] <= passes <= curve[-1][0]:
        return None
    return float(np.interp(passes, *zip(*curve, strict=True)))


def grids(results: Results | None) -> list[Grid]:
    """The sample grids, in the order of the table."""
    if results is None:
        return []
    pictures = [(m, results.picture(m)) for m in results.measurements]
    return [Grid(m.title.replace("*", ""), path, m, results.is_presets_teacher(m))
            for m, path in pictures if path]


def logs_of(pipe: Any) -> list[Path]:
    """The training logs of a model, in the order in which the stages run."""
    return logs_in_order(pipe.model.folder / "logs") if pipe.model.folder else []


def as_html(markdown: str, caption: str, best: bool = True) -> str:
    """A Markdown table, and the paragraphs and code around it, as HTML; without `best` no row
    stands out."""
    rows, parts = [], []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows:
            parts.append(_table(rows, caption, best))
            rows = []
        if line.strip():
            parts.append(f'<p class="dd2-note">{_inline(line)}</p>')
    return "".join(parts)


def _table(rows: list[list[str]], caption: str, best: bool) -> str:
    head, _, *body = rows
    top = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in head)
    lines = []
    for first, *rest in body:
        bold = first.startswith("**")
        look = ' class="best"' if bold and best else ""
        first = first if best else first.replace("**", "")
        cells = "".join(f"<td>{_inline(cell)}</td>" for cell in rest)
        lines.append(f'<tr{look}><th scope="row">{_inline(first)}</th>{cells}</tr>')
    return (
        f'<div class="dd2-table" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _inline(text: str) -> str:
    """Bold and code of Markdown."""
    text = html.escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)
