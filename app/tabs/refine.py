"""The tab between one step and all of them: one step, then the teacher from a step on."""

import html
from typing import Any

import gradio as gr

from app.address import View, address
from app.api import plain_errors
from app.html import measured, present
from app.html.charts import Axes, Chart, Line, Mark, around, draw
from app.requests import ALL_CLASSES, MAX_SEED, read_request, whole
from app.serve.runs import Run
from app.tabs.tab import LIVE, Shared, Tab, class_list, told

COUNT = 8  # images
SHOWS_MOST = ("fashion-var",)  # models where one pass more shows something, by looking
FIRST_PASSES = 2  # one step, and the teacher's last

EXPLAIN = """
The one-step model paints everything, then the teacher paints again from some step on, with what the
one-step model left before it. One pass is one step alone; each further pass hands one more step to
the teacher. What the passes buy is in the curve.
"""


class RefineTab(Tab):
    """Few-step sampling, with its measured quality."""

    id, title = "refine", "Refine"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        with gr.Row(elem_classes="dd2-controls dd2-low"):
            self.name = class_list([ALL_CLASSES, *pipe.class_names])
            self.seed = gr.Number(
                0, minimum=0, maximum=MAX_SEED, precision=0, label="Seed", elem_id="refine-seed"
            )
        self.says_no()
        self.passes = gr.Slider(
            1, pipe.teacher.num_steps, value=FIRST_PASSES, step=1, label="Passes",
            elem_id="passes", buttons=[],
        )
        flush = {"elem_classes": "dd2-flush"}
        with gr.Row(equal_height=True):
            with gr.Column(min_width=300):
                blank = _panel(pipe, None, FIRST_PASSES, [""] * COUNT)
                self.panel = gr.HTML(blank, elem_id="refined", **flush)
            with gr.Column(min_width=300):
                self.curve = gr.HTML(self._about(pipe, FIRST_PASSES), elem_id="curve", **flush)
        gr.Markdown("#### What a few passes more buy" + EXPLAIN, elem_classes="dd2-intro")
        self.fitted = [self.name, self.seed, self.passes, self.panel, self.curve, self.refusal]
        self.inputs = [shared.model, self.name, self.seed, self.passes]
        self.outputs = [self.panel, self.curve, self.address]
        live = {"fn": told(self.paint, len(self.outputs)), "inputs": self.inputs,
                "outputs": [*self.outputs, self.refusal], **LIVE}
        for event in (self.name.input(**live), self.seed.input(**live), self.passes.input(**live)):
            self.note_address(shared, event)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        options, steps = [ALL_CLASSES, *pipe.class_names], pipe.teacher.num_steps
        passes = view.whole("passes", 1, steps, min(steps, FIRST_PASSES))
        return [
            gr.Dropdown(choices=options, value=view.choice("class", options, ALL_CLASSES)),
            view.whole("seed", 0, MAX_SEED, 0),
            gr.Slider(maximum=steps, value=passes),
            _panel(pipe, None, passes, [""] * COUNT),
            self._about(pipe, passes), "",
        ]

    def _about(self, pipe: Any, passes: int) -> str:
        """The curve, and the way to the model where a second pass shows something."""
        curve, other = _curve(pipe, passes), shows_most(self.models.names)
        if other in (None, pipe.name):
            return curve
        name = html.escape(other)
        return (
            f'{curve}<p class="dd2-note">A second pass changes most where the last step decides '
            f'half of the tokens: <a href="?model={name}&amp;tab=refine">{name}</a>.</p>'
        )

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        self.fill_in_front(event, shared, self.paint, self.inputs, self.outputs)

    def paint(self, model: Any, name: Any, seed: Any, passes: Any) -> tuple[str, str, str]:
        """Images and cost at a count of passes, the curve with that place marked, the address."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        request = read_request(pipe, name, COUNT, 0 if seed is None else seed, *[None] * 4)
        steps = pipe.teacher.num_steps
        passes = whole("The number of passes", passes, 1, steps)
        with plain_errors():
            run = samplers.refine(request, 1 + steps - passes)
        query = address(
            self.id, model or pipe.name, class_=name, seed=request.seed, passes=passes
        )
        return _panel(pipe, run, passes, request.names), self._about(pipe, passes), query


def shows_most(names: list[str]) -> str | None:
    """The model, of those on offer, where a second pass shows something."""
    return next((name for name in SHOWS_MOST if name in names), None)


def _panel(pipe: Any, run: Run | None, passes: int, names: list[str]) -> str:
    """The images, which tokens are whose, and the cost."""
    start = 1 + pipe.teacher.num_steps - passes
    kept = 0 if start == 0 else pipe.teacher.spans[start - 1][1]
    total = pipe.teacher.num_tokens
    images = None if run is None else run.images
    clock = present.duration(0.0 if run is None else run.seconds)
    word = "pass" if passes == 1 else "passes"
    whose = f"{kept} of {total} tokens by one step, the rest by the teacher"
    whose = f"all {total} tokens by one step" if kept == total else whose
    return (
        f'<section class="dd2-panel" aria-label="Refined images"><h2>{passes} {word}'
        f'<span class="dd2-clock">{clock}</span></h2>'
        f'<p class="dd2-progress"><i style="--done:{100 * kept / total:.0f}%"></i>'
        f"<small>{whose}</small></p>"
        f"{present.tiles(images, names, f'{passes} {word}')}"
        f"{present.costs(run)}</section>"
    )


def _curve(pipe: Any, passes: int) -> str:
    """FD against passes, as measured; or how to measure it."""
    points, teacher, samples = measured.refine_curve(measured.results_of(pipe))
    if len(points) < 2:
        return (
            '<section class="dd2-panel"><h2>Quality against passes</h2><p class="dd2-note">Not '
            "measured for this model yet. The curve is drawn from what <code>python -m "
            "train.evaluate sampler=refine start=K tag=refine-K</code> writes, for a few K.</p>"
            "</section>"
        )
    steps, (x, y) = pipe.teacher.num_steps, zip(*points, strict=True)
    here = measured.interpolated(points, passes)
    lines = [Line("one step, then the teacher", x, y, "one", dots=True)]
    if teacher is not None:
        lines.append(Line(f"teacher alone, {steps} passes", (1, steps), [teacher] * 2, "two",
                          dash=True))
    if here is None:
        said = f"{passes} passes lie outside what was measured."
    else:
        how = "measured" if passes in x else "on the line between two measured points"
        said = f"At {passes} {'pass' if passes == 1 else 'passes'}: FD {here:.2f}, {how}."
    chart = Chart(
        "Quality against passes",
        f"FD {y[0]:.2f} at {x[0]} passes and {y[-1]:.2f} at {x[-1]}. {said}",
        Axes((1 - 0.02 * steps, 1.02 * max(steps, x[-1])), around(y, [teacher or 0.0], zero=True),
             "forward passes, one after the other", "FD (lower is better)"),
        lines, [Mark("", passes, here)] if here is not None else (), upright=passes,
        note=f"{said} N = {', '.join(f'{n:,}' for n in sorted(samples))} samples per point.",
    )
    return f'<section class="dd2-panel">{draw(chart)}</section>'
