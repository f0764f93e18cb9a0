"""What is where on the page, and which handler answers which button."""

from typing import Any

import gradio as gr

from app import present
from app.handlers import Handlers
from app.requests import ALL_CLASSES, MAX_SEED, SAMPLERS
from app.runs import machine

FIRST_COUNT = 8  # images of the first comparison
MOST_IMAGES = 16  # on the page; programs may ask for more
ONE_AT_A_TIME = {"concurrency_id": "sampler", "concurrency_limit": 1}  # honest clocks, flat memory

EXPLAIN = """
#### What you are looking at

The **teacher** paints in {steps} steps. Each looks at everything painted before and adds a little
more, so it takes {steps} runs through its network, one after the other.

The **one-step** model was distilled from it with Conditional Score Distillation: it turns noise
into the whole picture in a single run. It does not trace the teacher's picture. With the same seed
each paints its own; what should agree is how good and how varied they are.

**Time** is the model plus the decoder, which turns tokens into pixels: warmed up, and with no
previews to draw. The **wall clock** is what you waited while it painted for you.
"""

PROGRAM = """
```python
from gradio_client import Client

client = Client("http://127.0.0.1:7860")  # this page's address
image, numbers = client.predict(api_name="/generate")
for one_step, teacher, numbers in client.submit(count=4, seed=7, api_name="/compare"):
    print(numbers["teacher"], numbers["speedup"])
```
"""


def build_page(pipe: Any) -> gr.Blocks:
    """The page for one loaded pipeline."""
    handlers = Handlers(pipe)
    with gr.Blocks(title="DD2: one step beside its teacher", analytics_enabled=False) as page:
        gr.HTML(_head(pipe), elem_classes="dd2-flush")
        inputs, buttons = _controls(pipe)
        outputs = _results(pipe, handlers)
        gr.Markdown(EXPLAIN.format(steps=pipe.teacher.num_steps))
        with gr.Accordion("Use it from a program", open=False):
            gr.Markdown(PROGRAM, elem_classes="dd2-code")
        _connect(handlers, inputs, buttons, outputs)
        _publish(handlers, inputs)
    page.delete_cache = (3600, 3600)  # grids made for programs go after an hour
    return page


def _head(pipe: Any) -> str:
    steps = pipe.teacher.num_steps
    return (
        f'<header class="dd2-head"><h1>One step instead of {steps}</h1><p>A picture model that '
        f"needs {steps} steps for an image, and a copy distilled to need one. Same classes, same "
        "machine, side by side.</p></header>"
    )


def _controls(pipe: Any) -> tuple[list[gr.components.Component], dict[str, gr.Button]]:
    """Class, count, seed, the teacher's settings, and the buttons."""
    with gr.Row():
        name = gr.Dropdown([ALL_CLASSES, *pipe.class_names], value=ALL_CLASSES, label="Class")
        count = gr.Slider(1, MOST_IMAGES, value=FIRST_COUNT, step=1, label="Images")
        seed = gr.Number(
            0, minimum=0, maximum=MAX_SEED, precision=0, label="Seed (empty: a random one)"
        )
    with gr.Accordion("Teacher’s settings", open=False):
        settings = _settings(pipe)
    with gr.Row():
        buttons = {
            "compare": gr.Button("Compare", variant="primary", min_width=300, elem_id="compare"),
            "random": gr.Button("New seed", min_width=120, elem_id="random"),
            "stop": gr.Button("Stop", variant="stop", min_width=80, elem_id="stop"),
        }
    return [name, count, seed, *settings], buttons


def _settings(pipe: Any) -> list[gr.components.Component]:
    """Guidance, temperature, top-k, top-p, at the preset's values."""
    preset, codes = pipe.sampling, pipe.teacher.codebook.shape[0]
    with gr.Row():
        cfg = gr.Slider(
            0, 10, value=preset.cfg, step=0.05, label="Guidance", info="More: truer to the class"
        )
        temperature = gr.Slider(
            0.1, 2, value=preset.temperature, step=0.05, label="Temperature", info="1: as trained"
        )
    with gr.Row():
        top_k = gr.Slider(
            0, codes, value=preset.top_k, step=1, label="Top-k", info="0: every code may be drawn"
        )
        top_p = gr.Slider(
            0.01, 1, value=preset.top_p, step=0.01, label="Top-p", info="1: every code may be drawn"
        )
    return [cfg, temperature, top_k, top_p]


def _results(pipe: Any, handlers: Handlers) -> list[gr.HTML]:
    """The verdict, the two panels and the footnote, in their first state."""
    names = [""] * FIRST_COUNT
    verdict = gr.HTML(present.verdict(None, None), elem_id="verdict", elem_classes="dd2-flush")
    with gr.Row(equal_height=True):
        with gr.Column(min_width=300):
            left = gr.HTML(handlers.left(None, names), elem_id="one-step", elem_classes="dd2-flush")
        with gr.Column(min_width=300):
            right = gr.HTML(
                handlers.right(None, names), elem_id="teacher", elem_classes="dd2-flush"
            )
    footnote = gr.HTML(
        present.footnote(machine(pipe), FIRST_COUNT), elem_id="machine", elem_classes="dd2-flush"
    )
    return [verdict, left, right, footnote]


def _connect(handlers: Handlers, inputs: list, buttons: dict, outputs: list) -> None:
    """The buttons of the page; none of this is part of the public API."""
    verdict, seed = outputs[0], inputs[2]
    run = {
        "fn": handlers.compare_page,
        "inputs": inputs,
        "outputs": [*outputs, seed],
        "preprocess": False,  # requests.py checks: Gradio's own checks log a traceback
        "show_progress": "minimal",
        "show_progress_on": verdict,
        "api_visibility": "private",
        **ONE_AT_A_TIME,
    }
    plain = buttons["compare"].click(**run)
    forget = buttons["random"].click(
        lambda: None, outputs=seed, queue=False, show_progress="hidden", api_visibility="private"
    )
    fresh = forget.then(**run)
    buttons["stop"].click(
        present.stopped,
        inputs=verdict,
        outputs=verdict,
        cancels=[plain, fresh],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )


def _publish(handlers: Handlers, inputs: list) -> None:
    """The endpoints for programs, `/compare` and `/generate`."""
    sampler = gr.Dropdown(list(SAMPLERS), value="one_step", label="Sampler", visible=False)
    one = gr.Image(format="png", label="One step", visible=False)
    teacher = gr.Image(format="png", label="Teacher", visible=False)
    numbers = gr.JSON(label="Numbers", visible=False)
    door = gr.Button(visible=False)
    shared = {"preprocess": False, "show_progress": "hidden", **ONE_AT_A_TIME}
    door.click(handlers.compare, inputs, [one, teacher, numbers], api_name="compare", **shared)
    door.click(handlers.generate, [sampler, *inputs], [one, numbers], api_name="generate", **shared)
