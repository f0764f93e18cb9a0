"""The tab for a picture of one's own: what the tokenizer keeps, and an erased part filled."""

import html
from typing import Any

import gradio as gr
import numpy as np

from app.address import View, address
from app.api import plain_errors
from app.html import present
from app.own.pictures import read_mask, read_picture
from app.own.samples import paper
from app.own.tasks import Rebuilt, Way
from app.requests import MAX_SEED, read_class, read_seed
from app.tabs.tab import LIVE, ONE_AT_A_TIME, QUIET, Shared, Tab, class_list, first_class, told

EXPLAIN = """
#### What fills the hole

A picture becomes {tokens} tokens. Those under the brush are thrown away and sampled again; the
others stay as they are.

**The teacher** draws each erased token given the tokens of earlier steps, yours and new ones alike:
{order}. So what it paints fits what it has seen, and may not fit what comes after.

**One step cannot fill a hole.** It turns noise into a whole picture at once, and has no place to
put the part that you kept: its tokens come from a picture of its own of the chosen class, and meet
yours by chance. It can begin the work: half of the erased steps by one step, the rest by the
teacher, which sees both.
"""
RASTER = "those above, and to the left in the same row"
SCALES = ("all coarser scales, where a token is erased when at least half of its area is; the "
          "coarse tokens that you keep still say something of what was there")
BOARD = (
    '<div class="dd2-board" data-size="{size}" data-src="{source}" data-erased="{erased}" '
    'data-paper="{paper}">'
    '<canvas class="dd2-tile{hard}" width="{size}" height="{size}" role="img" '
    'aria-label="The picture"></canvas>'
    '<canvas class="dd2-tile{hard}" width="{size}" height="{size}" role="img" '
    'aria-label="The erased part"></canvas>'
    "</div>"
)
TOOLS = """
<fieldset class="dd2-tools"><legend>Brush</legend>
<label><input type="radio" name="dd2-tool" value="erase" checked> erase</label>
<label><input type="radio" name="dd2-tool" value="keep"> keep</label>
<label><input type="radio" name="dd2-tool" value="draw"> draw</label>
<label>colour <input type="color" value="#ffffff"></label>
<label>width <input type="range" name="dd2-brush" min="4" max="40" value="14"></label></fieldset>
<div class="dd2-keys" role="group" aria-label="Erase a part at once"><span>Erase</span>
<button type="button" data-do="top">top</button>
<button type="button" data-do="bottom">bottom</button>
<button type="button" data-do="left">left</button>
<button type="button" data-do="right">right</button>
<button type="button" data-do="middle">middle</button>
<button type="button" data-do="none">nothing</button></div>
<div class="dd2-keys" role="group" aria-label="Another picture">
<button type="button" data-do="file">Choose a file …</button>
<button type="button" data-do="empty">Empty</button>
<button type="button" data-do="invert">Invert</button>
<input type="file" accept="image/*" hidden aria-label="A picture of your own"></div>
<p class="dd2-refusal dd2-sketch-no" role="alert" hidden></p>
"""
SEND = "(...values) => dd2.sketch.values(values)"


class PictureTab(Tab):
    """Draw or bring a picture, erase a part, have it filled."""

    id, title = "picture", "Your picture"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        flush = {"elem_classes": "dd2-flush"}
        with gr.Row():
            with gr.Column(min_width=260):
                self.board = gr.HTML(
                    board(self.models.default, None), html_template="${value}" + TOOLS,
                    elem_id="sketch",
                    js_on_load="dd2.sketch.mount(element, props, trigger)", **flush,
                )
            with gr.Column(min_width=260):
                self.kept = gr.HTML(_kept(None), elem_id="kept", **flush)
        with gr.Row(elem_classes="dd2-controls"):
            self.name = class_list(pipe.class_names)
            self.seed = gr.Number(
                0, minimum=0, maximum=MAX_SEED, precision=0, label="Seed", min_width=80,
                elem_id="picture-seed",
            )
            fill = gr.Button("Fill", variant="primary", min_width=80, elem_id="fill")
            sample = gr.Button("A picture of the model’s", min_width=150, elem_id="sample")
        self.says_no()
        self.filled = gr.HTML(_filled(None), elem_id="filled", **flush)
        self.explain = gr.Markdown(explain(pipe), elem_classes="dd2-intro")
        self.picture = gr.Textbox("", visible=False, label="Picture")
        self.mask = gr.Textbox("", visible=False, label="Erased")
        self.fitted = [self.name, self.seed, self.board, self.kept, self.filled, self.explain,
                       self.refusal]
        self.inputs = [shared.model, self.picture, self.mask, self.name, self.seed]
        self._connect(shared, fill, sample)

    def _connect(self, shared: Shared, fill: gr.Button, sample: gr.Button) -> None:
        given = {"inputs": self.inputs, "js": SEND}
        self.board.input(
            told(self.look, 2), outputs=[self.kept, self.filled, self.refusal], **given, **LIVE
        )
        fill.click(
            told(self.fill, 3), outputs=[self.kept, self.filled, self.address, self.refusal],
            **given, **QUIET | {"show_progress": "minimal"}, **ONE_AT_A_TIME,
        )
        sampled = sample.click(
            told(self.sample, 2), [shared.model, self.name, self.seed],
            [self.board, self.address, self.refusal], **LIVE,
        )
        self.note_address(shared, sampled)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        names = pipe.class_names
        view = view.without() if view.given.get("class") in names else view.without("class")
        return [
            gr.Dropdown(choices=names, value=view.choice("class", names, first_class(names))),
            view.whole("seed", 0, MAX_SEED, 0), board(self.models.get(pipe.name), None),
            _kept(None), _filled(None), explain(pipe), "",
        ]

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`: a picture to begin with."""
        self.fill_in_front(event, shared, self.sample, [shared.model, self.name, self.seed],
                           [self.board, self.address])

    def sample(self, model: Any, name: Any, seed: Any) -> tuple[str, str]:
        """A board with a one-step picture of a class, its lower half erased; and the address."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        label, seed = read_class(pipe, name), _read_seed(seed)
        with plain_errors():
            image = samplers.gallery([label], seed).images[0]
        return board(samplers, image), address(self.id, model or pipe.name, class_=name, seed=seed)

    def look(self, model: Any, picture: Any, mask: Any, *_: Any) -> tuple[str, str]:
        """What the tokenizer keeps of the picture; what filled another one is gone."""
        samplers = self.models.get(model)
        pixels = _read(samplers, picture)
        try:
            erased = read_mask(mask, samplers.pipe.image_size)
        except gr.Error:  # nothing is erased yet
            erased = None
        with plain_errors():
            return _kept(samplers.rebuild(pixels, erased)), _filled(None)

    def fill(self, model: Any, picture: Any, mask: Any, name: Any, seed: Any) -> tuple:
        """The picture with its erased part filled in three ways."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        label, seed = read_class(pipe, name), _read_seed(seed)
        pixels, erased = _read(samplers, picture), read_mask(mask, pipe.image_size)
        with plain_errors():
            kept = samplers.rebuild(pixels, erased)
            ways = samplers.fill(pixels, erased, label, seed)
        query = address(self.id, model or pipe.name, class_=name, seed=seed)
        return _kept(kept), _filled(ways, name), query


def explain(pipe: Any) -> str:
    """What each way of filling can do, for this model."""
    single = all(isinstance(s, tuple) and s[1] - s[0] == 1 for s in pipe.teacher.spans)
    return EXPLAIN.format(tokens=pipe.teacher.num_tokens, order=RASTER if single else SCALES)


def board(samplers: Any, image: np.ndarray | None) -> str:
    """The picture to draw on, its lower half erased; without an image the model's paper."""
    pipe, colour = samplers.pipe, paper(samplers)
    if image is None:
        shape = (pipe.image_size, pipe.image_size, pipe.teacher.tokenizer.cfg.in_channels)
        image = np.full(shape, 255 if colour == "white" else 0, np.uint8)
    return BOARD.format(size=pipe.image_size, source=present.data_uri(image), erased="bottom",
                        paper=colour, hard=" dd2-hard" if pipe.image_size < present.HARD else "")


def _read(samplers: Any, picture: Any) -> Any:
    size, channels = samplers.pipe.image_size, samplers.pipe.teacher.tokenizer.cfg.in_channels
    return read_picture(picture, size, channels, paper(samplers))


def _read_seed(seed: Any) -> int:
    return read_seed("The seed", 0 if seed is None else seed)


def _kept(rebuilt: Rebuilt | None) -> str:
    """What the tokenizer keeps, and how many tokens are erased."""
    shot, said = present.EMPTY, "Nothing to encode yet"
    if rebuilt is not None:
        shot = present.tile(rebuilt.image, "The picture as its tokens paint it")
        lost = np.abs(rebuilt.picture.astype(float) - rebuilt.image).mean() / 255
        said = (f"{rebuilt.erased} of {rebuilt.tokens} tokens erased; the tokens paint the whole "
                f"picture with a mean error of {lost:.1%} per pixel")
    return (
        f'<figure class="dd2-kept"><div class="dd2-shot">{shot}</div>'
        f"<figcaption>What the tokenizer keeps. {said}.</figcaption></figure>"
    )


def _filled(ways: list[Way] | None, name: str = "") -> str:
    """Three ways side by side; empty tiles before there is anything."""
    heads = (("two", "Teacher"), ("two", "One step, then teacher"), ("one", "One step alone"))
    cells = []
    for i, (look, head) in enumerate(heads):
        way = ways[i] if ways else None
        shot = present.EMPTY if way is None else present.tile(
            way.image, f"{name}, the erased part filled by {head.lower()}")
        said = "&nbsp;" if way is None else html.escape(
            f"{_tokens(way)} · {way.passes} pass{'' if way.passes == 1 else 'es'}")
        cells.append(
            f'<figure class="dd2-way"><h3 class="{look}">{head}</h3><div class="dd2-shot">{shot}'
            f"</div><figcaption>{said}</figcaption></figure>"
        )
    return f'<div class="dd2-ways">{"".join(cells)}</div>'


def _tokens(way: Way) -> str:
    given = ((way.one_step, "one step"), (way.teacher, "the teacher"))
    parts = [f"{n} by {who}" for n, who in given if n]
    return f"tokens: {', '.join(parts) or 'none'}"
