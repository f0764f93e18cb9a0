"""What was measured and logged when a model was trained, read from its folder.

`results/*.json` and `results/*.png` are written by `train.evaluate` and `train.benchmark`,
`logs/*.jsonl` by the stages of training. Files that are missing or damaged are left out.
"""

import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dd2core import DD2Error
from dd2core.results import tables
from dd2core.store.files import read_json


@dataclass(frozen=True)
class Grid:
    """A sample grid with what was measured on those samples."""

    name: str
    path: Path
    numbers: dict[str, Any]


def results_of(pipe: Any) -> Path | None:
    """The folder of a model's results, if it has one."""
    folder = pipe.model.folder
    return folder / "results" if folder and (folder / "results").is_dir() else None


def evaluations(results: Path | None) -> dict[str, dict[str, Any]]:
    """Every evaluation by the name of its file."""
    found = {}
    for path in sorted(results.glob("*.json")) if results else ():
        try:
            numbers = read_json(path)
        except DD2Error:
            continue
        if "fd" in numbers and "passes" in numbers:
            found[path.stem] = numbers
    return found


def refine_curve(results: Path | None) -> tuple[list[tuple[int, float]], float | None, set[int]]:
    """(passes, FD) of few-step sampling, in order; the teacher's FD; the counts of samples. One
    step alone is the curve's first point."""
    found = evaluations(results)
    some = {name: r for name, r in found.items() if name.startswith("refine-")}
    if some and "one_step" in found:
        some = {"one_step": found["one_step"], **some}
    curve = {int(r["passes"]): float(r["fd"]) for r in some.values()}
    best = next((r["fd"] for r in found.values() if tables.is_presets(results, r)), None)
    return sorted(curve.items()), best, {r["n"] for r in some.values()}


def interpolated(curve: list[tuple[int, float]], passes: int) -> float | None:
    """FD between the measured points; None outside them."""
    if not curve or not curve[0][0] <= passes <= curve[-1][0]:
        return None
    return float(np.interp(passes, *zip(*curve, strict=True)))


def grids(results: Path | None) -> list[Grid]:
    """The sample grids, in the order of the table."""
    found = evaluations(results)
    listed = []
    for path in sorted((results / f"{name}.json" for name in found), key=tables.order):
        image, numbers = path.with_suffix(".png"), found[path.stem]
        if not image.is_file() and tables.is_presets(results, numbers):
            image = results / "teacher.png"  # drawn under the plain name
        if image.is_file():
            name = tables.title(path.stem).replace("*", "")
            listed.append(Grid(name, image, numbers))
    return listed


def log_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a training log."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # cut off by a kill
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def logs_of(pipe: Any) -> list[Path]:
    """The training logs of a model, in the order in which the stages run."""
    folder = pipe.model.folder
    paths = list((folder / "logs").glob("*.jsonl")) if folder else []
    stages = tables.STAGES
    return sorted(paths, key=lambda p: (
        stages.index(p.stem) if p.stem in stages else len(stages), p.stem
    ))


def as_html(markdown: str, caption: str) -> str:
    """A Markdown table, and the paragraphs and code around it, as HTML."""
    rows, parts = [], []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows:
            parts.append(_table(rows, caption))
            rows = []
        if line.strip():
            parts.append(f'<p class="dd2-note">{_inline(line)}</p>')
    return "".join(parts)


def _table(rows: list[list[str]], caption: str) -> str:
    head, _, *body = rows
    top = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in head)
    lines = []
    for first, *rest in body:
        look = ' class="best"' if first.startswith("**") else ""
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
