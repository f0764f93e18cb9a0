"""The tab of sixty-four pictures from one pass: one of them large, and whether it is new."""

import html
from typing import Any

import gradio as gr
import numpy as np

from app.address import View, address
from app.api import plain_errors
from app.html import present
from app.own.novelty import index_of, nearest_html
from app.requests import ALL_CLASSES, MAX_SEED, quote, read_request, read_seed, refuse
from app.tabs.tab import LIVE, Shared, Tab, class_list, told

COUNT = 64
COUNT_LARGE = 9  # of large images on a CPU, where sixty-four would take minutes
LAST_SEED = MAX_SEED - COUNT + 1  # that a gallery can begin with


class GalleryTab(Tab):
    """Many seeds at once; one of them opens in Explore."""

    id, title = "gallery", "Gallery"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        flush = {"elem_classes": "dd2-flush"}
        with gr.Row(elem_classes="dd2-controls dd2-low"):
            self.name = class_list([ALL_CLASSES, *pipe.class_names])
            self.seed = gr.Number(
                0, minimum=0, maximum=LAST_SEED, precision=0, label="First seed", min_width=80,
                elem_id="gallery-seed",
            )
            more = gr.Button("The next ones", min_width=110, elem_id="next")
        self.says_no()
        self.chosen = gr.HTML(_chosen(None), elem_id="chosen", **flush)
        self.sheet = gr.HTML(
            _blank(pipe), elem_id="gallery", js_on_load="dd2.choose(element, props, trigger)",
            **flush,
        )
        gr.Markdown(
            "#### Is it new?\nA model that repeated its training pictures would show it here: "
            "press a picture to see it beside the three nearest of them. Each picture has a seed "
            "of its own, which paints the same alone.", elem_classes="dd2-intro",
        )
        self.which = gr.Textbox("0", visible=False, label="Picture")
        self.fitted = [self.name, self.seed, self.which, self.chosen, self.sheet, self.refusal]
        self.inputs = [shared.model, self.name, self.seed, self.which]
        self.outputs = [self.chosen, self.sheet, self.address]
        self._connect(shared, more)

    def _connect(self, shared: Shared, more: gr.Button) -> None:
        live = {"fn": told(self.paint, len(self.outputs)), "inputs": self.inputs,
                "outputs": [*self.outputs, self.refusal], **LIVE}
        picked = self.sheet.click(None, None, self.which, js="() => dd2.chosen",
                                  api_visibility="private")
        further = more.click(
            told(self.further, 1), [shared.model, self.seed], [self.seed, self.refusal], **LIVE)
        for event in (self.name.input(**live), self.seed.input(**live), picked.then(**live),
                      further.success(**live)):
            self.note_address(shared, event)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        options = [ALL_CLASSES, *pipe.class_names]
        which = view.whole("picture", 0, _count(pipe) - 1, 0)
        return [
            gr.Dropdown(choices=options, value=view.choice("class", options, ALL_CLASSES)),
            view.whole("seed", 0, LAST_SEED, 0) if view.given.get("tab") == self.id else 0,
            str(which), _chosen(None), _blank(pipe), "",
        ]

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        self.fill_in_front(event, shared, self.paint, self.inputs, self.outputs)

    def further(self, model: Any, seed: Any) -> int:
        """The first seed of the next pictures; after the last ones, 0."""
        count = _count(self.models.get(model).pipe)
        seed = _first(seed) + count
        return seed if seed <= LAST_SEED else 0

    def paint(self, model: Any, name: Any, seed: Any, which: Any) -> tuple[str, str, str]:
        """The chosen picture with its nearest, the sheet, and the address."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        seed, count = _first(seed), _count(pipe)
        request = read_request(pipe, name, count, seed, *[None] * 4)
        place = _place(which, count)
        with plain_errors():
            painted = samplers.gallery(request.labels, seed)
            near = nearest_html(index_of(pipe), painted.images[place], request.names[place])
        own = {"class_": request.names[place], "seed": seed + place}
        link = address("explore", model or pipe.name, **own, to=seed + place + 1, at=0)
        said = f"{request.names[place]}, seed {seed + place}"
        cost = f"{count} pictures in one pass, {present.duration(painted.seconds)}"
        query = address(self.id, model or pipe.name, class_=name, seed=seed, picture=place)
        return (_chosen((said, link, near)),
                _sheet(painted.images, request.names, seed, place, cost), query)


def _first(seed: Any) -> int:
    """The first seed; an empty field is 0."""
    seed = read_seed("The first seed", 0 if seed is None else seed)
    if seed > LAST_SEED:
        raise refuse(f"The first seed must be from 0 to {LAST_SEED}, not {seed}.")
    return seed


def _place(which: Any, count: int) -> int:
    """Which picture, from 0."""
    good = isinstance(which, str) and which.isascii() and which.isdigit() and len(which) < 4
    if not good or int(which) >= count:
        raise refuse(f"Unknown picture {quote(which)}: press one of the {count}.")
    return int(which)


def _count(pipe: Any) -> int:
    large = pipe.device.type == "cpu" and pipe.image_size > present.SMALL
    return COUNT_LARGE if large else COUNT


def _blank(pipe: Any) -> str:
    return _sheet(None, [""] * _count(pipe), 0, -1, "Not painted yet")


def _chosen(found: tuple[str, str, str] | None) -> str:
    """The chosen picture in words, the way to Explore, and its nearest training pictures."""
    if found is None:
        return '<section class="dd2-panel dd2-chosen"><h2>&nbsp;</h2></section>'
    said, link, near = found
    return (
        f'<section class="dd2-panel dd2-chosen" aria-label="The chosen picture"><h2>'
        f'{html.escape(said)}<a href="?{html.escape(link)}">Open in Explore</a></h2>{near}'
        "</section>"
    )


def _sheet(
    images: np.ndarray | None, names: list[str], seed: int, place: int, cost: str
) -> str:
    cells = []
    for i, name in enumerate(names):
        text = f"{name}, seed {seed + i}"
        shot = present.EMPTY if images is None else present.tile(images[i], text)
        cells.append(
            f'<button type="button" class="dd2-choose" data-class="{i}" '
            f'aria-label="{html.escape(text) or i}" '
            f'aria-pressed="{"true" if i == place else "false"}">{shot}</button>'
        )
    return f'<p class="dd2-machine">{cost}</p><div class="dd2-wall">{"".join(cells)}</div>'
