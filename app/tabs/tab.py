"""What the tabs of the page have in common."""

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.address import View
from app.html.present import refusal
from app.own.samples import CLASSES
from app.requests import ALL_CLASSES
from app.serve.models import Models
from dd2core import DD2Error

ONE_AT_A_TIME = {"concurrency_id": "sampler", "concurrency_limit": 1}  # flat memory, fair turns
QUIET = {
    "preprocess": False,  # requests.py checks: Gradio's own checks log a traceback
    "show_progress": "hidden",
    "api_visibility": "private",
}
# What answers a slider skips the queue; app.serve.turns keeps it from disturbing others' clocks.
LIVE = {**QUIET, "queue": False, "trigger_mode": "always_last"}


WELL_KNOWN = ("happy faces",)  # classes, chosen by looking

# A plain select: Gradio's dropdown fires again whenever it loses the focus, picked or not.
PICKER = (
    '<label class="dd2-pick"><span>Model</span><select {{#if single}}disabled{{/if}}>'
    '{{#each names}}<option value="{{this}}">{{this}}</option>{{/each}}</select></label>'
)


def class_list(names: list[str]) -> gr.Dropdown:
    """A list of classes, each with its picture (`app.own.samples`), see `first_class`."""
    return gr.Dropdown(names, value=first_class(names), label="Class", min_width=100,
                       elem_classes=CLASSES)


def first_class(names: list[str]) -> str:
    """What a list of classes opens with: all of them, else one that people know, else the first."""
    known = (name for name in (ALL_CLASSES, *WELL_KNOWN) if name in names)
    return next(known, names[0])


def told(handler: Callable[..., Any], outputs: int) -> Callable[..., tuple]:
    """`handler` for an event: its values and an empty sentence, or, where it refuses, nothing but
    the sentence, for the element beside the controls. Raised, it would be an HTTP 500.

    Args:
        handler: returns a tuple of values, or one.
        outputs (int): how many.
    """
    @functools.wraps(handler)
    def answer(*values: Any) -> tuple:
        try:
            made = handler(*values)
        except (gr.Error, DD2Error) as error:
            return (*(gr.skip(),) * outputs, refusal(said_by(error)))
        return (*(made if isinstance(made, tuple) else (made,)), "")

    return answer


def said_by(error: gr.Error | DD2Error) -> str:
    """The sentence of a refusal."""
    return error.message if isinstance(error, gr.Error) else str(error)


class Shared:
    """Components that all tabs use.

    Attributes:
        model: the picker.
        shown: name of the model that the page shows, hidden; a pick that fails returns to it.
        refusal: the place for one sentence under the picker.
        where: id of the tab in front, hidden.
        search: query with which the page was opened, hidden.
    """

    def __init__(self, models: Models) -> None:
        self.model = gr.HTML(
            models.names[0], html_template=PICKER, js_on_load="dd2.picker(element, props, trigger)",
            names=models.names, single=len(models.names) == 1, elem_id="model",
            elem_classes="dd2-flush", min_width=200,
        )
        self.shown = gr.Textbox(models.names[0], visible=False, label="Model")
        self.where = gr.Textbox("compare", visible=False, label="Tab")
        self.search = gr.Textbox("", visible=False, label="Address")


class Tab:
    """One tab. A subclass builds components and events, and keeps two lists.

    Attributes:
        id, title: of the tab.
        fitted: components whose range or content depends on the model.
        address: query of the tab's view, hidden; `page.js` takes it from there.
        refusal: the place for one sentence; `build` puts it beside the controls (`says_no`).
    """

    id: str
    title: str

    def __init__(self, models: Models) -> None:
        self.models = models
        self.fitted: list[Any] = []
        self.address = gr.Textbox("", visible=False, label="Address")

    def says_no(self) -> gr.HTML:
        """The place for a refusal, made where it is called."""
        self.refusal = gr.HTML("", elem_classes="dd2-flush dd2-no", padding=False)
        return self.refusal

    def build(self, shared: Shared) -> None:
        """Make the components, inside the tab, and connect them."""
        raise NotImplementedError

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """Values of `fitted` for a model and an address."""
        raise NotImplementedError

    def arrive(self, event: Any, shared: Shared) -> None:
        """Fill the tab after `event`, if it is in front."""
        raise NotImplementedError

    def fill_in_front(self, event: Any, shared: Shared, show: Callable[..., tuple],
                      inputs: list[Any], outputs: list[Any]) -> None:
        """After `event`, fill `outputs` with what `show` makes of `inputs`, if this tab is in
        front; the last of them is the address."""
        def in_front(where: Any, *values: Any) -> tuple:
            return show(*values) if where == self.id else (gr.skip(),) * len(outputs)

        in_front.__qualname__ = f"{show.__qualname__}_in_front"  # what a log of the server names
        self.note_address(shared, event.then(
            told(in_front, len(outputs)), [shared.where, *inputs], [*outputs, self.refusal],
            **QUIET, queue=False,
        ))

    def note_address(self, shared: Shared, event: Any) -> Any:
        """After `event`, keep the address of the view, in the browser's bar if it is in front."""
        write = "(query, where) => { dd2.address(query, where); }"
        return event.success(
            None, [self.address, shared.where], None, js=write, api_visibility="private"
        )
