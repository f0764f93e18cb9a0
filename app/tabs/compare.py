"""The front tab: both samplers paint the same classes, side by side and timed."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import zero
from app.address import View, address
from app.api import about, both
from app.html import present
from app.html.files import archive, keep_bytes
from app.requests import ALL_CLASSES, MAX_SEED, Request, read_request, whole
from app.serve.runs import Run, machine, speedup
from app.tabs.tab import LIVE, ONE_AT_A_TIME, QUIET, Shared, Tab
from dd2core.store.names import as_file_name

ONE_STEP, TEACHER = "One step", "Teacher"  # headings of the panels
FIRST_COUNT = 8  # images of the first comparison
MOST_IMAGES = 16  # on the page; programs may ask for more
MOST_PICKED = 1000  # visitors whose choice of a model is kept
SETTINGS = ("cfg", "temperature", "top_k", "top_p")

EXPLAIN = """
#### What you are looking at

The **teacher** paints in {steps} steps. Each looks at everything painted before and adds a little
more, so it takes {steps} runs through its network, one after the other.

The **one-step** model was distilled from it with Conditional Score Distillation: it turns noise
into the whole picture in a single run. It does not trace the teacher's picture. With the same seed
each paints its own; what should agree is how good and how varied they are.

The large **clocks** show the model plus the decoder, which turns tokens into pixels: warmed up, and
with no previews to draw. The **wall clock** is what you waited while it painted for you.
"""


class CompareTab(Tab):
    """One step beside its teacher."""

    id, title = "compare", "Compare"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        self._controls(pipe)
        self._results(pipe)
        self.fitted = [*self.inputs, *self.panels, self.explain, self.examples]
        self.runs: list[Any] = []
        self._picked: dict[str, Any] = {}  # the model that each session has gone on to
        self._connect(shared)

    def _controls(self, pipe: Any) -> None:
        with gr.Row(elem_classes="dd2-controls"):
            self.name = gr.Dropdown(
                [ALL_CLASSES, *pipe.class_names], value=ALL_CLASSES, label="Class"
            )
            self.count = gr.Slider(1, MOST_IMAGES, value=FIRST_COUNT, step=1, label="Images")
            self.seed = gr.Number(
                0, minimum=0, maximum=MAX_SEED, precision=0, label="Seed (empty: a random one)"
            )
        with gr.Row():
            self.compare = gr.Button(
                "Compare", variant="primary", min_width=280, scale=2, elem_id="compare"
            )
            self.random = gr.Button("New seed", min_width=120, elem_id="random")
            self.stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="stop")
        with gr.Accordion("Teacher’s settings", open=False):
            self.inputs = [self.name, self.count, self.seed, *_settings(pipe)]

    def _results(self, pipe: Any) -> None:
        first = self._blank(pipe, FIRST_COUNT)
        flush = {"elem_classes": "dd2-flush"}
        self.verdict = gr.HTML(first[0], elem_id="verdict", **flush)
        with gr.Row(equal_height=True):
            with gr.Column(min_width=300):
                left = gr.HTML(first[1], elem_id="one-step", **flush)
            with gr.Column(min_width=300):
                right = gr.HTML(first[2], elem_id="teacher", **flush)
        bars = gr.HTML(first[3], elem_id="bars", **flush)
        footnote = gr.HTML(first[4], elem_id="machine", **flush)
        self.download = gr.DownloadButton(
            "Download all", interactive=False, size="sm", elem_id="download"
        )
        with gr.Accordion("Lay one over the other", open=False):
            overlay = gr.HTML(first[5], elem_id="overlay", **flush)
        self.panels = [self.verdict, left, right, bars, footnote, overlay, self.download]
        self.examples = gr.Dataset(
            components=["textbox"], samples=_labels(pipe), label="Examples", type="index",
            layout="gallery", elem_id="examples",
        )
        self.explain = gr.Markdown(EXPLAIN.format(steps=pipe.teacher.num_steps))

    def _blank(self, pipe: Any, count: int) -> list[Any]:
        names = [""] * count
        return [
            present.verdict(None, None), self._left(None, names), self._right(pipe, None, names),
            present.bars(None, None), present.footnote(machine(pipe), count),
            present.overlay(None, None, []),
        ]

    def _left(self, run: Run | None, names: list[str]) -> str:
        return present.panel(ONE_STEP, 1, run, names)

    def _right(self, pipe: Any, run: Run | None, names: list[str]) -> str:
        return present.panel(TEACHER, pipe.teacher.num_steps, run, names)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        preset, codes = pipe.sampling, pipe.teacher.codebook.shape[0]
        options = [ALL_CLASSES, *pipe.class_names]
        count = view.whole("count", 1, MOST_IMAGES, FIRST_COUNT)
        return [
            gr.Dropdown(choices=options, value=view.choice("class", options, ALL_CLASSES)),
            count,
            view.whole("seed", 0, MAX_SEED, 0),
            view.number("cfg", 0, 10, preset.cfg),
            view.number("temperature", 0.1, 2, preset.temperature),
            gr.Slider(maximum=codes, value=view.whole("top_k", 0, codes, preset.top_k)),
            view.number("top_p", 0.01, 1, preset.top_p),
            *self._blank(pipe, count), gr.DownloadButton(value=None, interactive=False),
            EXPLAIN.format(steps=pipe.teacher.num_steps),
            gr.Dataset(samples=_labels(pipe)),
        ]

    def _connect(self, shared: Shared) -> None:
        outputs = [*self.panels, self.seed, self.address]
        self.run = {
            "fn": self.paint, "inputs": [shared.model, *self.inputs], "outputs": outputs,
            **QUIET, "show_progress": "minimal", "show_progress_on": self.verdict, **ONE_AT_A_TIME,
        }
        plain = self.compare.click(**self.run)
        forget = self.random.click(lambda: None, None, self.seed, **LIVE)
        pick = self.examples.click(
            self.example, [shared.model, self.examples], [self.name, self.count, self.seed],
            **QUIET, queue=False,
        )
        self.runs = [plain, forget.then(**self.run), pick.then(**self.run)]
        for run in self.runs:
            self.note_address(shared, run)

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        if zero.LENT:  # a visitor's share of the GPU is spent on what the visitor asks for
            return
        run = {**self.run, "fn": self.paint_in_front}
        run["inputs"] = [shared.where, *run["inputs"]]
        arrived = event.then(**run)
        self.runs.append(arrived)
        self.note_address(shared, arrived)

    def connect_stop(self, shared: Shared) -> None:
        """Let Stop end every run that has been connected."""
        halted = self.stop.click(
            present.stopped, self.verdict, self.verdict, cancels=self.runs, queue=False,
            show_progress="hidden", api_visibility="private",
        )
        self.note_address(shared, halted)

    def pick(self, visitor: gr.Request | None, model: Any) -> None:
        """Note that a visitor has gone on to another model: what paints with the last one ends."""
        if visitor is not None:
            self._picked.pop(visitor.session_hash, None)  # the last one to pick is the last to go
            self._picked[visitor.session_hash] = model
            while len(self._picked) > MOST_PICKED:
                self._picked.pop(next(iter(self._picked)), None)

    def leave(self, visitor: gr.Request) -> None:
        """Forget a visitor who has closed the page."""
        self._picked.pop(visitor.session_hash, None)

    def _is_gone(self, visitor: gr.Request | None, model: Any) -> bool:
        return visitor is not None and self._picked.get(visitor.session_hash, model) != model

    def example(self, model: Any, index: Any) -> list[Any]:
        """Class, images and seed of an example."""
        samples = _examples(self.models.get(model).pipe)
        return samples[whole("The example", index, 0, len(samples) - 1)]

    def paint_in_front(self, visitor: gr.Request, where: Any, *values: Any) -> Iterator[tuple]:
        """`paint`, if this tab is in front."""
        if where != self.id:
            yield (gr.skip(),) * len(self.run["outputs"])
            return
        yield from self.paint(visitor, *values)

    def paint(self, visitor: gr.Request, model: Any, *values: Any) -> Iterator[tuple]:
        """Verdict, panels, bars, footnote, overlay and archive as they come, the seed that was
        used, and the address; until the visitor picks another model."""
        if self._is_gone(visitor, model):
            yield (gr.skip(),) * len(self.run["outputs"])
            return
        samplers = self.models.get(model)
        pipe = samplers.pipe
        request = read_request(pipe, *values)
        query = _address(pipe, model, values[0], request)
        nothing = present.overlay(None, None, [])
        drawn = None  # the one-step run whose panel is on the page already
        for one, teacher in both(samplers, request):
            if self._is_gone(visitor, model):
                return
            fresh, done = one is not drawn, teacher is not None and teacher.done
            yield (
                present.verdict(one, teacher) if fresh or done else gr.skip(),
                self._left(one, request.names) if fresh else gr.skip(),
                self._right(pipe, teacher, request.names),
                present.bars(one, teacher) if fresh or done else gr.skip(),
                present.footnote(machine(pipe), request.count, one, teacher) if fresh or done
                else gr.skip(),
                present.overlay(one.images, teacher.images, request.names) if done
                else nothing if fresh else gr.skip(),
                self._archive(samplers, request, one, teacher) if done
                else gr.DownloadButton(interactive=False) if fresh else gr.skip(),
                request.seed if drawn is None else gr.skip(),  # another may be typed meanwhile
                query if drawn is None else gr.skip(),
            )
            drawn = one

    def _archive(self, samplers: Any, request: Request, one: Run, teacher: Run) -> Any:
        numbers = about(samplers, request) | {
            "one_step": one.numbers(), "teacher": teacher.numbers(), **speedup(one, teacher)
        }
        groups = {"one-step": one.images, "teacher": teacher.images}
        name = f"{as_file_name(samplers.pipe.name, longest=80)}-seed-{request.seed}.zip"
        path = keep_bytes(archive(groups, request.names, numbers), name)
        return gr.DownloadButton(value=path, interactive=True)


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


def _examples(pipe: Any) -> list[list[Any]]:
    """Class, images and seed of some comparisons; classes from all over the list."""
    names = pipe.class_names
    picked = dict.fromkeys(names[i * len(names) // 3] for i in range(3))
    return [[ALL_CLASSES, 16, 3], *([name, 8, 7 + i] for i, name in enumerate(picked))]


def _labels(pipe: Any) -> list[list[str]]:
    """The examples in words."""
    return [[f"{name}, seed {seed}"] for name, _, seed in _examples(pipe)]


def _address(pipe: Any, model: Any, name: Any, request: Request) -> str:
    preset = pipe.sampling.keywords()
    changed = {k: f"{v:g}" for k, v in request.sampling.keywords().items() if v != preset[k]}
    count = None if request.count == FIRST_COUNT else request.count
    return address(
        "compare", model or pipe.name, class_=name, count=count, seed=request.seed, **changed
    )
