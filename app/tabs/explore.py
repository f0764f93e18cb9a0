"""The tab that walks through the latent: two seeds, a slider between, every class at one noise,
and a map of both."""

import contextlib
import html
import json
from typing import Any

import gradio as gr
import numpy as np

from app.address import View, address
from app.api import plain_errors
from app.html import present
from app.html.files import animation, keep_bytes, still
from app.requests import MAX_SEED, number, read_class, read_seed
from app.serve.runs import Run
from app.tabs.pad import no_pad, pad
from app.tabs.tab import LIVE, ONE_AT_A_TIME, QUIET, Shared, Tab, class_list, first_class, told
from dd2core import DD2Error

SHOWN_CLASSES = 10  # painted at the same noise, neighbours in the list; a model may know a thousand
COLUMNS = 8  # of the morph grid
FRAMES = 24  # of the animation, one way
# Of seeds, by model, chosen by looking; (0, 1) for others.
FIRST_PAIRS = {"emoji-llamagen": (19, 9), "emoji-var": (7, 25), "fashion-llamagen": (3, 9),
               "fashion-var": (5, 11)}

EXPLAIN = """
A latent is the noise that the generator turns into an image: the same latent, the same image. The
slider goes from one seed's latent to the other's along a great circle, and every stop is painted
afresh in one forward pass, all classes in one batch. To swap the class at fixed noise, press one of
the small pictures: only the class changes. The map shows both at once: drag its ring, or move it
with the arrow keys.
"""


class ExploreTab(Tab):
    """Interpolation, class swap, morph grid, GIF."""

    id, title = "explore", "Explore"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        flush = {"elem_classes": "dd2-flush"}
        with gr.Row(elem_classes="dd2-controls dd2-low"):
            self.name = class_list(pipe.class_names)
            self.start = _seed(first_pair(pipe)[0], "From seed", "from-seed")
            self.end = _seed(first_pair(pipe)[1], "To seed", "to-seed")
        self.says_no()
        self.place = gr.Slider(
            0, 1, value=0.5, step=0.01, label="Place between the two", elem_id="place", buttons=[]
        )
        with gr.Row():
            with gr.Column(min_width=300):
                self.stage = gr.HTML(_blank(pipe), elem_id="stage",
                                     js_on_load="dd2.choose(element, props, trigger)", **flush)
            with gr.Column(min_width=300):
                self.pad = gr.HTML(no_pad(_labels(pipe, _first(pipe))), elem_id="pad",
                                   padding=False, **flush,
                                   js_on_load="dd2.pad.mount(element, props, trigger)")
        with gr.Row():
            grid = gr.Button("Morph grid", min_width=140, elem_id="morph")
            gif = gr.Button("Make a GIF", min_width=140, elem_id="gif")
            self.download = gr.DownloadButton(
                "Download GIF", interactive=False, min_width=140, elem_id="download-gif"
            )
        self.sheet = gr.HTML("", elem_id="sheet", **flush)
        gr.Markdown("#### Explore the latent" + EXPLAIN, elem_classes="dd2-intro")
        self.made = gr.Textbox("", visible=False, label="Made of")  # what sheet and GIF show
        self.mapped = gr.Textbox("", visible=False, label="Mapped")  # what the map shows
        self.extras = [self.sheet, self.download, self.made]
        self.fitted = [self.name, self.start, self.end, self.place, self.stage, *self.extras,
                       self.pad, self.mapped, self.refusal]
        self.inputs = [shared.model, self.name, self.start, self.end, self.place]
        self.outputs = [self.stage, self.address]
        self._connect(shared, grid, gif)

    def _connect(self, shared: Shared, grid: gr.Button, gif: gr.Button) -> None:
        live = {"fn": told(self.paint, len(self.outputs)), "inputs": self.inputs,
                "outputs": [*self.outputs, self.refusal], **LIVE}
        chosen = self.stage.click(
            None, None, self.name, js="() => dd2.chosen", api_visibility="private"
        )
        dragged = self.pad.input(None, None, [self.name, self.place], js="() => dd2.pad.value",
                                 api_visibility="private")
        events = [self.place.input(**live), self.name.input(**live), self.start.input(**live),
                  self.end.input(**live), chosen.then(**live), dragged.then(**live)]
        tidy = {"fn": self.tidy, "inputs": [*self.inputs[:4], self.made, self.mapped],
                "outputs": [*self.extras, self.pad, self.mapped], **LIVE}
        for event in events:
            self.note_address(shared, event)
            event.then(**tidy)
        slow = {"inputs": self.inputs[:4], **QUIET, "show_progress": "minimal", **ONE_AT_A_TIME,
                "outputs": [*self.extras, self.refusal]}
        for button, make in ((grid, self.morph), (gif, self.animate)):
            made = button.click(told(make, len(self.extras)), **slow)
            made.then(**tidy)  # the settings may have been changed meanwhile

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        names = pipe.class_names
        # The front tab's address may name all classes, which is no choice here.
        view = view.without() if view.given.get("class") in names else view.without("class")
        start, end = first_pair(pipe)
        start = view.whole("seed", 0, MAX_SEED, start)
        if start == end:  # an address names the one seed alone: from a seed to itself is no way
            end = end + 1 if end < MAX_SEED else 0
        return [
            gr.Dropdown(choices=names, value=view.choice("class", names, first_class(names))),
            start,
            view.whole("to", 0, MAX_SEED, end),
            view.number("at", 0, 1, 0.5),
            _blank(pipe), *nothing_made(), no_pad(_labels(pipe, _first(pipe))), "", "",
        ]

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        self.fill_in_front(event, shared, self.paint, self.inputs, self.outputs)

        def tidy(where: Any, *values: Any) -> tuple:
            skipped = (gr.skip(),) * (len(self.extras) + 2)
            return self.tidy(*values) if where == self.id else skipped

        tidy.__qualname__ = f"{type(self).__name__}.tidy"
        event.then(tidy, [shared.where, *self.inputs[:4], self.made, self.mapped],
                   [*self.extras, self.pad, self.mapped], **QUIET, queue=False)

    def paint(self, model: Any, name: Any, start: Any, end: Any, place: Any) -> tuple[str, str]:
        """The stage at one place, and the address. Both ends are painted in the same pass."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        label, seeds = read_class(pipe, name), _read_seeds(start, end)
        place = number("The place", place, 0.0, 1.0)
        labels = _labels(pipe, label)
        places = [0.0, 1.0, *[place] * len(labels)]
        with plain_errors():
            run = samplers.morph([label, label, *labels], *seeds, places)
        here = labels.index(label)
        query = address(
            self.id, model or pipe.name, class_=name, seed=seeds[0], to=seeds[1], at=f"{place:g}"
        )
        names = [pipe.class_names[i] for i in labels]
        return _stage(run, names, here, seeds, place), query

    def tidy(self, model: Any, name: Any, start: Any, end: Any, made: Any, mapped: Any) -> tuple:
        """Sheet, GIF and what they show: gone, once the settings are others; and the map with what
        it shows, painted anew for other seeds or classes."""
        skip = gr.skip()
        extras: tuple = (skip, skip, skip)
        if made and made != _key(model, name, start, end):
            extras = nothing_made()
        with contextlib.suppress(gr.Error, DD2Error):  # `paint` has said what is wrong
            samplers = self.models.get(model)
            pipe = samplers.pipe
            labels, seeds = _labels(pipe, read_class(pipe, name)), _read_seeds(start, end)
            key = _key(pipe.name, labels, seeds)
            if key != mapped:
                return (*extras, pad(samplers, labels, seeds), key)
        return (*extras, skip, skip)

    def morph(self, model: Any, name: Any, start: Any, end: Any) -> tuple[str, Any, str]:
        """Every class on the way from one seed to the other, one row each; no GIF of other
        settings stays beside it."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        labels, seeds = _labels(pipe, read_class(pipe, name)), _read_seeds(start, end)
        places = [i / (COLUMNS - 1) for i in range(COLUMNS)]
        with plain_errors():
            run = samplers.morph(
                [label for label in labels for _ in places], *seeds, places * len(labels)
            )
        cells = [
            present.tile(image, f"{pipe.class_names[labels[i // COLUMNS]]}, "
                                f"{places[i % COLUMNS]:.0%} of the way")
            for i, image in enumerate(run.images)
        ]
        sheet = _sheet(
            present.cells(cells, COLUMNS),
            f"Seed {seeds[0]} on the left, seed {seeds[1]} on the right; a row has one class, a "
            f"column one noise. {len(cells)} images in one pass, {present.duration(run.seconds)}.",
        )
        return sheet, gr.skip(), _key(model, name, start, end)

    def animate(self, model: Any, name: Any, start: Any, end: Any) -> tuple[str, Any, str]:
        """A GIF there and back, on the page and as a file, and what it shows."""
        samplers = self.models.get(model)
        label, seeds = read_class(samplers.pipe, name), _read_seeds(start, end)
        places = [i / (FRAMES - 1) for i in range(FRAMES)]
        with plain_errors():
            run = samplers.morph([label] * FRAMES, *seeds, places)
        data = animation(run.images)
        path = keep_bytes(data, f"morph-{seeds[0]}-{seeds[1]}.gif")
        text = html.escape(f"{name}, morphing from seed {seeds[0]} to {seeds[1]} and back")
        first = present.as_uri(still(run.images[0]), "png")
        shown = _sheet(
            f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{first}">'
            f'<img class="dd2-gif" alt="{text}" src="{present.as_uri(data, "gif")}"></picture>',
            f"{FRAMES} images in one pass, {present.duration(run.seconds)}.",
        )
        return (shown, gr.DownloadButton(value=path, interactive=True),
                _key(model, name, start, end))


def nothing_made() -> tuple[str, gr.DownloadButton, str]:
    """No sheet, no GIF, made of nothing."""
    return "", gr.DownloadButton(value=None, interactive=False), ""


def first_pair(pipe: Any) -> tuple[int, int]:
    """The two seeds that the tab opens with."""
    return FIRST_PAIRS.get(pipe.name, (0, 1))


def _key(*settings: Any) -> str:
    """What a sheet or a GIF was made of, in one text."""
    return json.dumps(settings)


def _seed(value: int, label: str, name: str) -> gr.Number:
    return gr.Number(value, minimum=0, maximum=MAX_SEED, precision=0, label=label, min_width=80,
                     elem_id=name)


def _read_seeds(start: Any, end: Any) -> tuple[int, int]:
    """Both seeds; an empty field counts as 0 here, so that a slip of the hand changes nothing."""
    return tuple(read_seed("The seed", 0 if seed is None else seed) for seed in (start, end))


def _labels(pipe: Any, label: int) -> list[int]:
    """The classes that are painted at the same noise, `label` among them. On a CPU a model of
    large images paints the chosen one only: more would make the slider stall."""
    if pipe.device.type == "cpu" and pipe.image_size > present.SMALL:
        return [label]
    last = len(pipe.class_names)
    start = max(0, min(label // SHOWN_CLASSES * SHOWN_CLASSES, last - SHOWN_CLASSES))
    return list(range(start, min(last, start + SHOWN_CLASSES)))


def _blank(pipe: Any) -> str:
    labels = _labels(pipe, _first(pipe))
    names = [pipe.class_names[i] for i in labels]
    return _stage(None, names, labels.index(_first(pipe)), first_pair(pipe), 0.5)


def _first(pipe: Any) -> int:
    """The label of the class that the tab opens with."""
    return pipe.class_names.index(first_class(pipe.class_names))


def _stage(
    run: Run | None, names: list[str], here: int, seeds: tuple[int, int], place: float
) -> str:
    """Both ends, the place between them, the other classes at the same noise, and the cost."""
    ends, row = (None, None), [None] * len(names)
    if run is not None:
        ends, row = run.images[:2], run.images[2:]
    name = names[here]
    big = (
        _figure(ends[0], f"{name}, seed {seeds[0]}", f"Seed {seeds[0]}")
        + _figure(row[here], f"{name}, {place:.0%} of the way", f"{place:.0%} of the way", "now")
        + _figure(ends[1], f"{name}, seed {seeds[1]}", f"Seed {seeds[1]}")
    )
    small = [
        f'<button type="button" class="dd2-choose" data-class="{html.escape(other)}" '
        f'title="{html.escape(other)}" '
        f'aria-pressed="{"true" if i == here else "false"}">'
        f'{_figure(image, f"{other}, same noise", other, "now" if i == here else "")}</button>'
        for i, (image, other) in enumerate(zip(row, names, strict=True))
    ]
    cost = "Not painted yet" if run is None else (
        f"{len(run.images)} images in one pass: model {present.duration(run.model_seconds)}, "
        f"decoder {present.duration(run.decode_seconds)}"
    )
    return (
        f'<div class="dd2-stage" data-shown="{html.escape(name)}" data-at="{place:g}">{big}</div>'
        f'<div class="dd2-strip">{"".join(small)}</div>'
        f'<p class="dd2-machine" id="latent-cost">{cost}</p>'
    )


def _figure(image: np.ndarray | None, text: str, caption: str, look: str = "") -> str:
    picture = present.EMPTY if image is None else present.tile(image, text)
    under = f"<figcaption>{html.escape(caption)}</figcaption>"
    return f'<figure class="{look}">{picture}{under}</figure>'


def _sheet(content: str, caption: str) -> str:
    return f'<figure class="dd2-sheet">{content}<figcaption>{caption}</figcaption></figure>'
