"""The tab that shows the conditional score of one token, and how the training went."""

from typing import Any

import gradio as gr

from app.address import View, address
from app.api import plain_errors
from app.html import measured
from app.html.charts import side_by_side
from app.html.moving import moving
from app.html.score_view import charts_of, says, training_charts, whole_picture
from app.requests import MAX_SEED, number, read_class, read_seed, whole
from app.tabs.tab import LIVE, Shared, Tab, class_list, first_class, told

OPENING = """
## Inside the method

How does a model learn to paint in one step what its teacher paints in {steps}? Not by copying
pictures: it is told, token by token, where the teacher would rather go.
"""
EXPLAIN = """
Choose a token of an image that the one-step model painted. The teacher has looked at the tokens
before it and gives **p**, a probability for each code that could stand here. Noise the token that
does stand here, x<sub>t</sub> = (1 − t)·x<sub>0</sub> + t·ε: knowing p, the best guess of what was
noised is an average of the codes, weighted by how well each explains x<sub>t</sub>. That guess is
**D<sub>Φ</sub>**, in closed form, and the **conditional score** is where it points.
**D<sub>ψ</sub>** is the same guess by the guidance network, which has learned what the one-step
model paints. Where the two differ, training pulls the one-step model from D<sub>ψ</sub> to
D<sub>Φ</sub>.
"""


class InsideTab(Tab):
    """The method, at one token."""

    id, title = "inside", "Inside"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        tokens = pipe.teacher.num_tokens
        self.opening = gr.Markdown(_opening(pipe), elem_classes="dd2-intro")
        gr.HTML(moving(), elem_id="moving", elem_classes="dd2-flush")
        with gr.Accordion("The same in formulas", open=False):
            gr.Markdown(EXPLAIN, elem_classes="dd2-intro")
        gr.Markdown("### One token of one picture", elem_classes="dd2-intro")
        with gr.Row(elem_classes="dd2-controls"):
            self.name = class_list(pipe.class_names)
            self.seed = gr.Number(0, minimum=0, maximum=MAX_SEED, precision=0, label="Seed")
        with gr.Row(elem_classes="dd2-controls"):
            self.token = gr.Slider(
                1, tokens, value=tokens // 2, step=1, label="Token", elem_id="token",
                buttons=[],
            )
            self.time = gr.Slider(
                0.02, 0.98, value=0.5, step=0.02, label="t, the share of noise", elem_id="time",
                buttons=[],
            )
        flush = {"elem_classes": "dd2-flush"}
        self.says_no()
        self.shown = gr.HTML(_blank(), elem_id="inside", **flush)
        with gr.Accordion("How the training went", open=False):
            self.training = gr.HTML(_training(pipe), elem_id="training", **flush)
        self.fitted = [self.opening, self.name, self.seed, self.token, self.time, self.training,
                       self.refusal]
        self.inputs = [shared.model, self.name, self.seed, self.token, self.time]
        self.outputs = [self.shown, self.address]
        live = {"fn": told(self.show, len(self.outputs)), "inputs": self.inputs,
                "outputs": [*self.outputs, self.refusal], **LIVE}
        for event in (self.name.input(**live), self.seed.input(**live),
                      self.token.input(**live), self.time.input(**live)):
            self.note_address(shared, event)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        names, tokens = pipe.class_names, pipe.teacher.num_tokens
        view = view.without() if view.given.get("class") in names else view.without("class")
        return [
            _opening(pipe),
            gr.Dropdown(choices=names, value=view.choice("class", names, first_class(names))),
            view.whole("seed", 0, MAX_SEED, 0),
            gr.Slider(maximum=tokens, value=view.whole("token", 1, tokens, tokens // 2)),
            view.number("t", 0.02, 0.98, 0.5),
            _training(pipe), "",
        ]

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        self.fill_in_front(event, shared, self.show, self.inputs, self.outputs)

    def show(self, model: Any, name: Any, seed: Any, token: Any, time: Any) -> tuple[str, str]:
        """Everything about one token, and the address."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        label, seed = read_class(pipe, name), read_seed("The seed", 0 if seed is None else seed)
        place = whole("The token", token, 1, pipe.teacher.num_tokens) - 1
        time = number("The share of noise t", time, 0.02, 1.0)
        with plain_errors():
            token = samplers.examine(label, seed, place, time)
        query = address(
            self.id, model or pipe.name, class_=name, seed=seed, token=place + 1, t=f"{time:g}"
        )
        picture = whole_picture(pipe, token, name)
        text = f'<p class="dd2-note" role="status">{says(token)}</p>'
        first, second, against_time, *gap = charts_of(token)
        charts = side_by_side(first, second, *gap, large=True) + (
            "<details><summary>The same against t</summary>"
            f"{side_by_side(against_time, large=True)}</details>")
        return f'<div class="dd2-token">{picture}{text}</div>{charts}', query


def _opening(pipe: Any) -> str:
    return OPENING.format(steps=pipe.teacher.num_steps)


def _blank() -> str:
    return '<div class="dd2-token"></div><div class="dd2-waiting"></div>'


def _training(pipe: Any) -> str:
    charts = training_charts(measured.logs_of(pipe))
    if not charts:
        return '<p class="dd2-note">This model came without training logs.</p>'
    return side_by_side(*charts)
