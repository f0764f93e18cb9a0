"""The tab of measured results: tables, sample grids with their commands, training curves.

Everything is read from the model's folder, where `train.evaluate` and `train.benchmark` left it.
"""

import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from app.address import View, address
from app.charts import Axes, Chart, Line, around, side_by_side
from app.tab import QUIET, Shared, Tab
from dd2core import DD2Error, tables
from dd2core.checkpoint import read_json

NOTHING = "No measurements came with this model: `train.evaluate` and `train.benchmark` write them."
POINTS = 160  # of a curve, at most
GRIDS = ("teacher", "one_step", "dd1", "parallel", "tokenizer")  # one picture of each
STAGES = ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "tune")
# Which numbers of a log share a chart: their names there, what they are, and the axis.
CURVES = (
    ({"loss": "loss"}, "loss"),
    ({"accuracy": "accuracy"}, "accuracy"),
    ({"nll": "teacher's NLL", "entropy": "marginal entropy"}, "nats per token"),
    ({"fcs": "FCS loss of ψ"}, "loss"),
)
LOOKS = ("one", "two", "three")

EXPLAIN = """
## Measured results

Read from the files that the evaluation and the benchmark wrote, each with its command. FD is the
Fréchet distance on the features of a small classifier, so it compares with no other paper's FID.
"""


class ResultsTab(Tab):
    """Tables, grids and curves of one model."""

    id, title = "results", "Results"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        gr.Markdown(EXPLAIN, elem_classes="dd2-intro")
        self.tables = gr.Markdown("", elem_id="tables", elem_classes="dd2-tables")
        self.grids = gr.HTML("", elem_id="grids", elem_classes="dd2-flush")
        self.curves = gr.HTML("", elem_id="curves", elem_classes="dd2-flush")
        self.fitted = [self.tables, self.grids, self.curves]

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`. The files are read when a visitor arrives at the tab."""
        return ["", "", ""]

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        arrived = event.then(
            self.show_in_front, [shared.where, shared.model], [*self.fitted, shared.address],
            **QUIET, queue=False,
        )
        shared.note_address(arrived)

    def show_in_front(self, where: Any, model: Any) -> tuple:
        """Tables, grids, curves and the address, if this tab is in front."""
        if where != self.id:
            return (gr.skip(),) * 4
        pipe = self.models.get(model).pipe
        return (*show(pipe.model.folder), address(self.id, model or pipe.name))


def show(folder: Path | None) -> tuple[str, str, str]:
    """Tables as Markdown, grids and curves as HTML, of a model folder."""
    if folder is None or not any((folder / "results").glob("*.json")):
        return NOTHING, "", curves(folder / "logs") if folder is not None else ""
    return all_tables(folder), grids(folder / "results"), curves(folder / "logs")


def all_tables(folder: Path) -> str:
    """Every table that the files give, under its heading."""
    results, logs = folder / "results", folder / "logs"
    parts: list[tuple[str, Callable[[Path], str], Path]] = [
        ("Quality", tables.quality_table, results),
        ("Few steps: one step, then the teacher", tables.refine_table, results),
        ("Speed", tables.speed_table, results),
        ("The teacher by guidance scale", tables.guidance_table, results),
        ("What training took", tables.training_table, logs),
        ("Estimates along the way", tables.tried_table, results),
        ("The commands", tables.commands, results),
    ]
    made = [(title, _table(make, path)) for title, make, path in parts if path.is_dir()]
    return "\n\n".join(f"#### {title}\n\n{text}" for title, text in made if text)


def _table(make: Callable[[Path], str], path: Path) -> str:
    try:
        return make(path)
    except (DD2Error, KeyError, TypeError, ValueError, IndexError) as error:
        return f"Not shown: a file in `{path.name}/` lacks what this table needs ({error})."


def grids(results: Path) -> str:
    """One sample grid of each sampler, the one with the lowest FD, with FD and command."""
    figures = [found for kind in GRIDS if (found := _grid(results, kind))]
    if not figures:
        return ""
    return f'<h3>Samples</h3><div class="dd2-samples">{"".join(figures)}</div>'


def _grid(results: Path, kind: str) -> str:
    found = []
    for path in results.glob(f"{kind}*.png"):
        numbers = _numbers(path.with_suffix(".json"))
        numbers = numbers or _preset_teacher(path)
        exact = path.stem == kind or path.stem.startswith(f"{kind}-lr")
        if exact and numbers:
            found.append((numbers.get("fd", float("inf")), path, numbers))
    if not found:
        return ""
    _, path, numbers = min(found, key=lambda one: one[0])
    name = tables.NAMES.get(kind, kind).strip("*")
    about = f"FD {numbers['fd']:.2f}, N = {numbers['n']:,}" if "fd" in numbers else ""
    command = f"<code>{html.escape(numbers['command'])}</code>" if "command" in numbers else ""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img loading="lazy" alt="Samples: {html.escape(name)}" '
        f'src="data:image/png;base64,{data}"><figcaption><b>{html.escape(name)}</b> '
        f"{about}{command}</figcaption></figure>"
    )


def _numbers(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _preset_teacher(path: Path) -> dict[str, Any]:
    """Where the teacher was swept over guidance, its numbers at the preset's are its own."""
    config = path.parent.parent / "config.json"
    if path.stem != "teacher" or not config.is_file():
        return {}
    best = read_json(config)["sampling"]["cfg"]
    swept = (_numbers(p) for p in path.parent.glob("teacher-cfg*.json"))
    return next((n for n in swept if n["teacher_settings"]["cfg"] == best), {})


def curves(logs: Path) -> str:
    """Training curves of every stage that left a log."""
    charts = [chart for stage in STAGES for chart in stage_charts(logs / f"{stage}.jsonl")]
    return f"<h3>Training curves</h3>{side_by_side(*charts)}" if charts else ""


def stage_charts(path: Path) -> list[Chart]:
    """The charts of one log."""
    lines = read_log(path)
    made = []
    for names, label in CURVES:
        shown = {key: name for key, name in names.items() if lines and key in lines[-1]}
        if shown:
            made.append(_chart(path.stem, lines, shown, label))
    return made


def _chart(stage: str, rows: list[dict], names: dict[str, str], label: str) -> Chart:
    curves = []
    for (key, name), look in zip(names.items(), LOOKS, strict=False):
        points = [(row["step"], row[key]) for row in rows if key in row]
        points = points[:: -(-len(points) // POINTS)]
        x, y = zip(*points, strict=True)
        curves.append(Line(name, x, y, look))
    says = "; ".join(f"{c.name} from {c.y[0]:.3g} to {c.y[-1]:.3g}" for c in curves)
    axes = Axes(
        (0, max(c.x[-1] for c in curves)), around(*(c.y for c in curves)), "iteration", label
    )
    title = f"{stage}: {' and '.join(names.values())}"
    return Chart(title, f"{says}, in {curves[0].x[-1]:,} iterations.", axes, curves)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; none if there is no file. A half-written last line is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows
