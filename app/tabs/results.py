"""The tab of measured numbers and sample grids, each with the command that made it."""

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.address import View, address
from app.html import conclusions, measured, present
from app.requests import quote, refuse
from app.tabs.tab import LIVE, Shared, Tab, told
from dd2core import DD2Error
from dd2core.results import tables
from dd2core.results.collection import Results
from dd2core.results.training import training_table

EXPLAIN = """
Everything here is read from files beside the weights, which `train.evaluate` and `train.benchmark`
wrote. Lower FD is better; it is measured on the features of a small classifier, so it compares with
the other rows and with no other paper's numbers. Only rows with an IS (Inception Score) are of
Inception's features. Fewer than 10,000 samples, of those fewer than 50,000, make an estimate.
"""
NONE = "no grids"


def _training(results: Results) -> str:
    """What training took; nothing if a log is of another version, or damaged."""
    try:
        return training_table(results.folder.parent / "logs")
    except DD2Error:
        return ""


# Heading, what to conclude, table, and the tables whose commands made it; none: `train.all`.
Told = Callable[[Results], str]
SECTIONS: tuple[tuple[str, Told, Told, tuple[str, ...]], ...] = (
    ("Quality", conclusions.quality, tables.quality_table, ("quality", "guidance")),
    ("Speed", conclusions.speed, tables.speed_table, ("speed",)),
    ("One step, then the teacher from a step on", conclusions.refine, tables.refine_table,
     ("refine",)),
    ("The teacher by guidance scale", conclusions.guidance, tables.guidance_table, ("guidance",)),
    ("What training took", conclusions.training, _training, ()),
    ("Estimates along the way", conclusions.tried, tables.tried_table, ("tried",)),
)


class ResultsTab(Tab):
    """Tables and grids."""

    id, title = "results", "Results"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        gr.Markdown("## Results" + EXPLAIN, elem_classes="dd2-intro")
        self.says_no()
        self.tables = gr.HTML("", elem_id="tables", elem_classes="dd2-flush")
        gr.Markdown("### Samples, side by side", elem_classes="dd2-intro")
        self.names, self.grids = [], []
        with gr.Row():
            for side in ("Left", "Right"):
                with gr.Column(min_width=300):
                    self.names.append(gr.Dropdown([NONE], value=NONE, label=f"{side} grid"))
                    self.grids.append(gr.HTML(
                        "", elem_id=f"grid-{side.lower()}", elem_classes="dd2-flush"
                    ))
        self.fitted = [*self.names, self.tables, *self.grids, self.refusal]
        for name, grid in zip(self.names, self.grids, strict=True):
            name.input(told(self.show, 1), [shared.model, name], [grid, self.refusal], **LIVE)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        grids = measured.grids(measured.results_of(pipe))
        names = [grid.name for grid in grids] or [NONE]
        one = next((i for i, name in enumerate(names) if name.startswith("DD2")), 0)
        teacher = _presets_teacher(grids)
        chosen = [gr.Dropdown(choices=names, value=names[i]) for i in (teacher, one)]
        return [*chosen, "", "", "", ""]  # tables and grids are filled in when the tab is in front

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        self.fill_in_front(event, shared, self.show_all, [shared.model, *self.names],
                           [self.tables, *self.grids, self.address])

    def show_all(self, model: Any, *names: Any) -> tuple:
        """Tables, both grids and the address."""
        pipe = self.models.get(model).pipe
        query = address(self.id, model or pipe.name)
        return (tables_of(pipe), *(self.show(model, name) for name in names), query)

    def show(self, model: Any, name: Any) -> str:
        """One grid with its numbers and its command."""
        pipe = self.models.get(model).pipe
        listed = {grid.name: grid for grid in measured.grids(measured.results_of(pipe))}
        if name == NONE and not listed:
            return '<p class="dd2-note">No sample grids lie beside this model.</p>'
        if not isinstance(name, str) or name not in listed:
            raise refuse(f"Unknown grid {quote(name)}: choose one of {', '.join(listed)}.")
        return _grid(listed[name])


def _presets_teacher(grids: list[measured.Grid]) -> int:
    """Which grid is the teacher's under the preset's settings."""
    return next((i for i, grid in enumerate(grids) if grid.is_presets_teacher), 0)


def tables_of(pipe: Any) -> str:
    """All measured tables of a model, and the commands that made them."""
    results = measured.results_of(pipe)
    if results is None:
        return '<p class="dd2-note">No measurements lie beside this model.</p>'
    parts = []
    rows = results.of("quality")
    best = any(m.method == "one_step" and conclusions.is_best(m, rows) for m in rows)
    for title, conclusion, table, made_by in SECTIONS:
        text = conclusions.plain(table(results))
        if text:
            commands = tables.commands(results, *made_by) if made_by else (
                f"python -m train.all preset={pipe.name}")
            said = html.escape(conclusion(results))
            parts.append(
                f'<h3>{title}</h3><p class="dd2-says">{said}</p>'
                f"{measured.as_html(text, title, best)}{_folded(commands)}"
            )
    return "".join(parts)


def _folded(commands: str) -> str:
    """Commands, to be unfolded."""
    lines = html.escape(commands.strip("`").strip())
    return (
        "<details><summary>Made by</summary>"
        f'<pre tabindex="0">{lines}</pre></details>' if lines else ""
    )


def _grid(grid: measured.Grid) -> str:
    m = grid.measurement
    estimate = "estimate, " if m.estimate else ""
    text = html.escape(f"Samples: {conclusions.plain(grid.name)}, FD {m.fd:.2f}")
    return (
        f'<figure class="dd2-sheet"><img alt="{text}" src="'
        f'{present.as_uri(grid.path.read_bytes(), "png")}"><figcaption>FD {m.fd:.2f} '
        f"({estimate}N = {m.n:,}), {m.passes} {'pass' if m.passes == 1 else 'passes'}</figcaption>"
        f"<pre tabindex=\"0\">{html.escape(m.command)}</pre></figure>"
    )
