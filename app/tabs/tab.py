"""What the tabs of the page have in common."""

from typing import Any

import gradio as gr

from app.address import View
from app.serve.models import Models

ONE_AT_A_TIME = {"concurrency_id": "sampler", "concurrency_limit": 1}  # flat memory, fair turns
QUIET = {
    "preprocess": False,  # requests.py checks: Gradio's own checks log a traceback
    "show_progress": "hidden",
    "api_visibility": "private",
}
# What answers a slider skips the queue; app.serve.turns keeps it from disturbing others' clocks.
LIVE = {**QUIET, "queue": False, "trigger_mode": "always_last"}


class Shared:
    """Components that all tabs use.

    Attributes:
        model: the picker.
        where: id of the tab in front, hidden.
        search: query with which the page was opened, hidden.
    """

    def __init__(self, models: Models) -> None:
        several = len(models.names) > 1
        self.model = gr.Dropdown(
            models.names, value=models.names[0], label="Model", interactive=several,
            elem_id="model", min_width=200, scale=0,
        )
        self.where = gr.Textbox("compare", visible=False, label="Tab")
        self.search = gr.Textbox("", visible=False, label="Address")


class Tab:
    """One tab. A subclass builds components and events, and keeps two lists.

    Attributes:
        id, title: of the tab.
        fitted: components whose range or content depends on the model.
        address: query of the tab's view, hidden; `page.js` takes it from there.
    """

    id: str
    title: str

    def __init__(self, models: Models) -> None:
        self.models = models
        self.fitted: list[Any] = []
        self.address = gr.Textbox("", visible=False, label="Address")

    def build(self, shared: Shared) -> None:
        """Make the components, inside the tab, and connect them."""
        raise NotImplementedError

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """Values of `fitted` for a model and an address."""
        raise NotImplementedError

    def arrive(self, event: Any, shared: Shared) -> None:
        """Fill the tab after `event`, if it is in front."""
        raise NotImplementedError

    def note_address(self, shared: Shared, event: Any) -> Any:
        """After `event`, keep the address of the view, in the browser's bar if it is in front."""
        write = "(query, where) => { dd2.address(query, where); }"
        return event.success(
            None, [self.address, shared.where], None, js=write, api_visibility="private"
        )
