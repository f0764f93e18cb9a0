"""The frame of the page: heading, model picker, tabs, and the endpoints for programs."""

import html
import inspect
from typing import Any

import gradio as gr

from app.address import FRONT, View
from app.api import Handlers
from app.html.present import refusal
from app.own.samples import style
from app.requests import ALL_CLASSES, MAX_FRAMES, MAX_IMAGES, MAX_SEED, SAMPLERS
from app.serve.models import Models
from app.serve.queue import waiting
from app.serve.runs import Samplers
from app.tabs.browser import offered
from app.tabs.compare import FIRST_COUNT, SETTINGS, CompareTab
from app.tabs.explore import ExploreTab
from app.tabs.gallery import GalleryTab
from app.tabs.inside import InsideTab
from app.tabs.picture import PictureTab
from app.tabs.refine import RefineTab, shows_most
from app.tabs.results import ResultsTab
from app.tabs.tab import ONE_AT_A_TIME, QUIET, Shared, Tab, said_by
from dd2core import DD2Error

# No menu for tabs that do not fit: arrow keys do not reach into it. An older Gradio has one.
IN_A_ROW = {"overflow_behavior": "wrap"} if "overflow_behavior" in inspect.signature(
    gr.Tabs.__init__).parameters else {}
TABS = (CompareTab, ExploreTab, GalleryTab, PictureTab, RefineTab, InsideTab, ResultsTab)

PROGRAM = """\
from gradio_client import Client

client = Client("http://127.0.0.1:7860")  # this page's address
image, numbers = client.predict(count=4, seed=7, api_name="/generate")
grid, gif, numbers = client.predict(seed_a=1, seed_b=2, api_name="/interpolate")
for one_step, teacher, numbers in client.submit(count=4, seed=7, api_name="/compare"):
    print(numbers["teacher"], numbers["speedup"])
"""


def build_page(models: Models) -> gr.Blocks:
    """The page over some models."""
    with gr.Blocks(title="DD2: one step beside its teacher", analytics_enabled=False) as page:
        tabs, shared, head, strip = _frame(models)
        _connect(page, models, tabs, shared, head, strip)
        with gr.Accordion("Use it from a program", open=False):
            code = html.escape(PROGRAM)
            gr.HTML(f'<pre tabindex="0" role="region" aria-label="Program">{code}</pre>',
                    elem_classes="dd2-code")
        _publish(Handlers(models), models)
    page.first = tabs[0].first_html(_head(models.default.pipe))
    models.crowded = lambda: waiting(page, ONE_AT_A_TIME["concurrency_id"]) > 0
    page.delete_cache = (3600, 3600)  # files made for programs go after an hour
    return page


def _frame(models: Models) -> tuple[list[Tab], Shared, gr.HTML, gr.Tabs]:
    """Heading, picker, and the tabs with what is in them."""
    with gr.Row(elem_classes="dd2-top"):
        head = gr.HTML(_head_and_pictures(models.default), elem_classes="dd2-flush", min_width=300)
        shared = Shared(models)
    shared.refusal = gr.HTML("", elem_id="no-model", elem_classes="dd2-flush dd2-no", padding=False)
    tabs = [kind(models) for kind in (*TABS, *offered())]
    with gr.Tabs(selected=FRONT, elem_id="tabs", **IN_A_ROW) as strip:
        for tab in tabs:
            with gr.Tab(tab.title, id=tab.id, elem_id=f"tab-{tab.id}") as door:
                tab.build(shared)
            tab.door = door
    return tabs, shared, head, strip


def _head(pipe: Any) -> str:
    steps = pipe.teacher.num_steps
    return (
        f'<header class="dd2-head"><h1>One step instead of {steps}</h1><p>A picture model that '
        f"needs {steps} steps for an image, and a copy distilled to need one. Same classes, same "
        "machine, side by side.</p></header>"
    )


def _head_and_pictures(samplers: Samplers) -> str:
    """The heading, and with it the pictures of the lists of classes."""
    return _head(samplers.pipe) + style(samplers)


def _connect(
    page: gr.Blocks, models: Models, tabs: list[Tab], shared: Shared, head: gr.HTML, strip: gr.Tabs
) -> None:
    """What happens when the page opens, when another model is picked, and at another tab."""
    fitted = [component for tab in tabs for component in tab.fitted]
    front = next(tab for tab in tabs if isinstance(tab, CompareTab))
    outputs = [shared.model, shared.where, strip, head, *fitted, front.arriving, shared.shown,
               shared.refusal]

    def open_view(visitor: gr.Request, search: Any) -> list[Any]:
        view = View(search)
        refine = view.given.get("tab") == RefineTab.id
        first = (shows_most(models.names) if refine else None) or models.names[0]
        model, said = view.choice("model", models.names, first), ""
        try:
            fitted = _fit(models, tabs, view, model)
        except (gr.Error, DD2Error) as error:  # the default's weights are there, or nothing is
            model, said = models.names[0], refusal(said_by(error))
            fitted = _fit(models, tabs, view, model)
        for complaint in dict.fromkeys(view.complaints):
            gr.Warning(html.escape(complaint))  # a toast shows HTML
        return [*fitted, front.expect(visitor), model, said]

    def pick_model(visitor: gr.Request, model: Any, shown: Any, search: Any, *_: Any) -> list[Any]:
        front.pick(visitor)
        # What the visitor has chosen stays, but for the settings of the other teacher.
        try:
            fitted = _fit(models, tabs, View(search).without(*SETTINGS), model)
        except (gr.Error, DD2Error) as error:  # the picker goes back, everything else stays
            nothing = (gr.skip(),) * (len(outputs) - 4)
            return [shown, *nothing, front.expect(visitor), gr.skip(), refusal(said_by(error))]
        return [*fitted, front.expect(visitor), model, ""]

    opened = page.load(  # through the queue, which alone carries warnings to the visitor
        open_view, shared.search, outputs, js="() => dd2.open()", **QUIET, concurrency_limit=None
    )
    picked = shared.model.input(
        pick_model, [shared.model, shared.shown, shared.search, front.address, shared.where],
        outputs, js="(model, shown, _, running, where) => dd2.pick(model, shown, running, where)",
        **QUIET, queue=False,
    )
    picked.then(None, shared.shown, None, js="(model) => { dd2.shown(model); }",
                api_visibility="private")
    for event in (opened, picked):
        for tab in tabs:
            tab.arrive(event, shared)
    for tab in tabs:
        # In the browser alone, so that the first tab, which selects itself, is never late.
        there = tab.door.select(
            None, None, shared.where, js=f"() => dd2.at({tab.id!r})", api_visibility="private"
        )
        if tab.id != FRONT:  # the front's comparison stays; a new one is a click away
            tab.arrive(there, shared)
    front.connect_stop(shared)
    page.unload(front.leave)


def _fit(models: Models, tabs: list[Tab], view: View, model: Any) -> list[Any]:
    """Values of the picker, the tab in front, the heading, and everything that a model changes."""
    pipe = models.get(model).pipe
    where = view.choice("tab", [tab.id for tab in tabs], FRONT)
    values = [value for tab in tabs for value in tab.fit(pipe, view)]
    return [model, where, gr.Tabs(selected=where), _head_and_pictures(models.get(model)), *values]


def _publish(handlers: Handlers, models: Models) -> None:
    """The endpoints for programs: components that are never shown give their types."""
    names = models.default.pipe.class_names
    hidden = {"visible": False}
    with gr.Group(visible=False):
        options = [ALL_CLASSES, *names]
        values = [
            gr.Dropdown(options, value=ALL_CLASSES, label="Class", **hidden),
            gr.Slider(1, MAX_IMAGES, value=FIRST_COUNT, step=1, label="Images", **hidden),
            _seed(0, "Seed"),
            *(gr.Number(None, label=f"Teacher's {name}", **hidden) for name in SETTINGS),
        ]
        model = gr.Dropdown(models.names, value=models.names[0], label="Model", **hidden)
        sampler = gr.Dropdown(list(SAMPLERS), value="one_step", label="Sampler", **hidden)
        one_class = gr.Dropdown(names, value=None, label="Class", **hidden)
        frames = gr.Slider(2, MAX_FRAMES, value=8, step=1, label="Images", **hidden)
        ends = [_seed(0, "From seed"), _seed(1, "To seed")]
        one = gr.Image(format="png", label="One step", **hidden)
        teacher = gr.Image(format="png", label="Teacher", **hidden)
        gif = gr.File(label="GIF", **hidden)
        numbers = gr.JSON(label="Numbers", **hidden)
        door = gr.Button(**hidden)
    shared = {"preprocess": False, "show_progress": "hidden", **ONE_AT_A_TIME}
    inputs = [*values, model]
    door.click(handlers.compare, inputs, [one, teacher, numbers], api_name="compare", **shared)
    door.click(handlers.generate, [sampler, *inputs], [one, numbers], api_name="generate", **shared)
    door.click(
        handlers.interpolate, [one_class, *ends, frames, model], [one, gif, numbers],
        api_name="interpolate", **shared,
    )


def _seed(value: int, label: str) -> gr.Number:
    return gr.Number(
        value, minimum=0, maximum=MAX_SEED, precision=0, label=label, visible=False
    )
