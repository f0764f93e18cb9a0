"""The front tab: both samplers paint the same classes, side by side and timed."""

import contextlib
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import zero
from app.address import View, address
from app.api import about, both
from app.html import present
from app.html.files import archive, keep_bytes
from app.html.first import first_html
from app.own.card import card_button
from app.requests import ALL_CLASSES, MAX_SEED, Request, all_classes, read_request, whole
from app.serve.runs import Run, machine, speedup
from app.serve.tickets import Tickets
from app.tabs.compare_controls import examples, labels, teachers_settings
from app.tabs.tab import LIVE, ONE_AT_A_TIME, QUIET, Shared, Tab, class_list, said_by, told
from dd2core import DD2Error
from dd2core.store.names import as_file_name

ONE_STEP, TEACHER = "One step", "Teacher"  # headings of the panels
FIRST_COUNT = 8  # images of the first comparison
# By model, chosen by looking; 0 for others.
FIRST_SEEDS = {"emoji-llamagen": 4, "emoji-var": 3, "fashion-llamagen": 3, "fashion-var": 1}
MOST_IMAGES = 16  # on the page; programs may ask for more
SETTINGS = ("cfg", "temperature", "top_k", "top_p")

EXPLAIN = """
#### What you are looking at

The **teacher** paints in {steps} steps. Each looks at everything painted before and adds a little
more, so it takes {steps} runs through its network, one after the other.

The **one-step** model was distilled from it with Conditional Score Distillation: it turns noise
into the whole picture in a single run. It does not trace the teacher's picture. With the same seed
each paints its own; what should agree is how good and how varied they are.

The large **clocks** run while the pictures are painted: model plus decoder. Then both are
**measured again**, in turns, warmed up, for the same time each and with no previews to draw; the
ratio is that of the medians. **What you waited** starts at your click and has everything in it: the
queue, warming up, previews, the network.
"""


class CompareTab(Tab):
    """One step beside its teacher."""

    id, title = "compare", "Compare"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        self.firsts = {pipe.name: self._first(pipe)}  # by model, as the page opens
        self._panels(pipe)
        self._controls(pipe)
        self._below(pipe)
        self.panels = [self.verdict, self.race, self.left, self.right, self.bars, self.footnote,
                       self.download]
        self.fitted = [*self.inputs, *self.panels, self.explain, self.examples, self.refusal]
        self.ticket = gr.Textbox("", visible=False, label="Ticket")
        self.arriving = gr.Textbox(None, visible=False, label="Ticket of what begins by itself")
        self.runs: list[Any] = []
        self.tickets = Tickets()
        self._connect(shared)

    def _panels(self, pipe: Any) -> None:
        first = self._blank(pipe, FIRST_COUNT)
        flush = {"elem_classes": "dd2-flush"}
        self.verdict = gr.HTML(first[0], elem_id="verdict", **flush)
        self.race = gr.HTML(first[1], elem_id="race", **flush)
        with gr.Row(equal_height=True, elem_id="panels"):
            with gr.Column(min_width=140):
                left = self.firsts[pipe.name] or first[2]
                self.left = gr.HTML(left, elem_id="one-step", **flush)
            with gr.Column(min_width=140):
                self.right = gr.HTML(first[3], elem_id="teacher", **flush)

    def _controls(self, pipe: Any) -> None:
        with gr.Row():
            self.compare = gr.Button(
                "Compare", variant="primary", min_width=120, scale=2, elem_id="compare"
            )
            self.random = gr.Button("New seed", min_width=80, elem_id="random")
            self.stop = gr.Button("Stop", variant="stop", min_width=60, elem_id="stop")
        self.says_no()
        with gr.Row(elem_classes="dd2-controls"):
            self.name = class_list([ALL_CLASSES, *pipe.class_names])
            self.count = gr.Slider(
                1, MOST_IMAGES, value=FIRST_COUNT, step=1, label="Images", elem_id="count",
                min_width=100,
            )
            self.seed = gr.Number(
                first_seed(pipe), minimum=0, maximum=MAX_SEED, precision=0, elem_id="seed",
                label="Seed (empty: a random one)", min_width=100,
            )
        with gr.Accordion("Teacher’s settings", open=False):
            self.inputs = [self.name, self.count, self.seed, *teachers_settings(pipe)]

    def _below(self, pipe: Any) -> None:
        first = self._blank(pipe, FIRST_COUNT)
        flush = {"elem_classes": "dd2-flush"}
        self.bars = gr.HTML(first[4], elem_id="bars", **flush)
        self.footnote = gr.HTML(first[5], elem_id="machine", **flush)
        self.download = gr.DownloadButton(
            "Download all", interactive=False, size="sm", elem_id="download"
        )
        self.examples = gr.Dataset(
            components=["textbox"], samples=labels(pipe), label="Examples", type="index",
            layout="gallery", elem_id="examples",
        )
        self.explain = gr.Markdown(EXPLAIN.format(steps=pipe.teacher.num_steps))

    def _blank(self, pipe: Any, count: int, name: str = ALL_CLASSES) -> list[Any]:
        """Verdict, race, both panels, bars and footnote, before anything is painted."""
        known = pipe.class_names
        names = [known[i] for i in all_classes(len(known), count)] if name == ALL_CLASSES else (
            [name] * count)
        steps = pipe.teacher.num_steps
        return [
            present.verdict(steps, None, None), present.race(steps, None, None),
            self._left(None, names), self._right(pipe, None, names), _numbers(None, None),
            present.footnote(machine(pipe), count),
        ]

    def _first(self, pipe: Any) -> str | None:
        """The one-step panel that the page comes with: a picture is there before the first request
        is answered. Not where painting is slow, or paid for."""
        if zero.LENT or (pipe.device.type == "cpu" and pipe.image_size > present.SMALL):
            return None
        with contextlib.suppress(gr.Error, DD2Error):
            request = read_request(pipe, ALL_CLASSES, FIRST_COUNT, first_seed(pipe), *[None] * 4)
            return self._left(self.models.get(pipe.name).one_step(request), request.names)
        return None

    def first_html(self, head: str) -> str:
        """What stands in the page's place until its scripts have run; nothing without a picture."""
        pipe = self.models.default.pipe
        left, blank = self.firsts[pipe.name], self._blank(pipe, FIRST_COUNT)
        return first_html(head, present.loading(), blank[1], left, blank[3]) if left else ""

    def _left(self, run: Run | None, names: list[str], fresh: bool = False) -> str:
        return present.panel(ONE_STEP, 1, run, names, fresh=fresh)

    def _right(self, pipe: Any, run: Run | None, names: list[str]) -> str:
        veil = "" if run is None else present.unpainted(pipe.teacher.spans, run.step)
        return present.panel(TEACHER, pipe.teacher.num_steps, run, names, veil)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        preset, codes = pipe.sampling, pipe.teacher.codebook.shape[0]
        options = [ALL_CLASSES, *pipe.class_names]
        count = view.whole("count", 1, MOST_IMAGES, FIRST_COUNT)
        name = view.choice("class", options, ALL_CLASSES)
        panels = self._blank(pipe, count, name)
        if not {"class", "count", "seed"} & view.given.keys():
            panels[2] = self.firsts.get(pipe.name) or panels[2]
        return [
            gr.Dropdown(choices=options, value=name),
            count,
            view.whole("seed", 0, MAX_SEED, first_seed(pipe)),
            view.number("cfg", 0, 10, preset.cfg),
            view.number("temperature", 0.1, 2, preset.temperature),
            gr.Slider(maximum=codes, value=view.whole("top_k", 0, codes, preset.top_k)),
            view.number("top_p", 0.01, 1, preset.top_p),
            *panels, no_download(),
            EXPLAIN.format(steps=pipe.teacher.num_steps),
            gr.Dataset(samples=labels(pipe)), "",
        ]

    def _connect(self, shared: Shared) -> None:
        self.outputs = [*self.panels, self.seed, self.address, self.refusal]
        self.values = [shared.model, *self.inputs]
        self.run = {
            "fn": self.paint, "inputs": [self.ticket, *self.values], "outputs": self.outputs,
            **QUIET, "trigger_mode": "multiple", **ONE_AT_A_TIME,
        }
        forget = self.random.click(lambda: None, None, self.seed, **LIVE)
        pick = self.examples.click(
            told(self.example, 3), [shared.model, self.examples],
            [self.name, self.count, self.seed, self.refusal], **QUIET, queue=False,
        )
        begin = {
            "fn": self.begin, "inputs": self.values,
            "outputs": [self.ticket, *self.panels, self.refusal], **QUIET, "queue": False,
            "trigger_mode": "multiple", "js": "(...values) => dd2.begin(values)",
        }
        begun = [self.compare.click(**begin), self.seed.submit(**begin), forget.then(**begin),
                 pick.then(**begin)]
        self.runs = [event.success(**self.run) for event in begun]
        for run in self.runs:
            self.note_address(shared, run)

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        if zero.LENT:  # a visitor's share of the GPU is spent on what the visitor asks for
            return
        run = {**self.run, "fn": self.paint_in_front}
        run["inputs"] = [shared.where, self.arriving, *self.values]
        arrived = event.then(**run)
        self.runs.append(arrived)
        self.note_address(shared, arrived)

    def connect_stop(self, shared: Shared) -> None:
        """Let Stop end every run that has been connected."""
        halted = self.stop.click(
            self.halt, None, self.verdict, cancels=self.runs, queue=False,
            show_progress="hidden", api_visibility="private", trigger_mode="multiple",
        )
        self.note_address(shared, halted)

    def halt(self, visitor: gr.Request) -> Any:
        """The verdict after Stop, which changes nothing where nothing is running."""
        return present.stopped() if self.tickets.stop(_session(visitor)) else gr.skip()

    def pick(self, visitor: gr.Request | None) -> None:
        """A visitor has gone on to another model: what paints with the last one ends."""
        self.tickets.stop(_session(visitor))

    def expect(self, visitor: gr.Request | None) -> str:
        """The ticket of the comparison that begins by itself when the page has opened or another
        model is there: taken now and not when its turn has come, so that what the visitor begins
        meanwhile is the newer one. None where nothing begins by itself (`arrive`)."""
        return "" if zero.LENT else str(self.tickets.take(_session(visitor)))

    def leave(self, visitor: gr.Request) -> None:
        """Forget a visitor who has closed the page."""
        self.tickets.stop(_session(visitor))

    def example(self, model: Any, index: Any) -> tuple:
        """Class, images and seed of an example."""
        samples = examples(self.models.get(model).pipe)
        return tuple(samples[whole("The example", index, 0, len(samples) - 1)])

    def begin(self, visitor: gr.Request, model: Any, *values: Any) -> tuple:
        """At the click, before the queue: a ticket, which ends what is still painting for this
        visitor, and empty panels; or nothing but a refusal."""
        try:
            pipe = self.models.get(model).pipe
            request = read_request(pipe, *values)
        except (gr.Error, DD2Error) as error:
            return ("", *(gr.skip(),) * len(self.panels), present.refusal(said_by(error)))
        _, *rest = self._blank(pipe, request.count, values[0])
        ticket = self.tickets.take(_session(visitor))
        return (str(ticket), present.starting(), *rest, no_download(), "")

    def paint_in_front(
        self, visitor: gr.Request, where: Any, ticket: Any, *values: Any
    ) -> Iterator[tuple]:
        """`paint`, if this tab is in front."""
        if where != self.id:
            self.tickets.finish(_session(visitor), _ticket(ticket))
            yield (gr.skip(),) * len(self.outputs)
            return
        yield from self.paint(visitor, ticket, *values)

    def paint(self, visitor: gr.Request, ticket: Any, model: Any, *values: Any) -> Iterator[tuple]:
        """Verdict, race, panels, bars, footnote and archive as they come, the seed that was used,
        the address, and a refusal; for as long as the ticket is the visitor's newest."""
        session = _session(visitor)
        number = self.tickets.take(session) if ticket is None else _ticket(ticket)
        nothing = (gr.skip(),) * len(self.outputs)

        def wanted() -> bool:
            return self.tickets.holds(session, number)

        if not wanted():
            yield nothing
            return
        try:
            for parts in self._frames(wanted, model, *values):
                if not wanted():
                    return
                yield parts
        except (gr.Error, DD2Error) as error:
            yield (present.stopped(), *nothing[1:-1], present.refusal(said_by(error)))
        finally:
            self.tickets.finish(session, number)

    def _frames(self, wanted: Any, model: Any, *values: Any) -> Iterator[tuple]:
        samplers = self.models.get(model)
        pipe = samplers.pipe
        request = read_request(pipe, *values)
        query = _address(pipe, model, values[0], request)
        steps, names, info = pipe.teacher.num_steps, request.names, machine(pipe)
        shown = f"{values[0]}, seed {request.seed}"
        first = True
        for one, teacher in both(samplers, request, wanted, self.models.crowded):
            done = teacher is not None and teacher.done
            final = teacher is not None and teacher.final
            news = first or done
            yield (
                present.verdict(steps, one, teacher) if news else gr.skip(),
                present.race(steps, one, teacher),
                self._left(one, names, fresh=first) if first or final else gr.skip(),
                self._right(pipe, teacher, names),
                _numbers(one, teacher) if news else gr.skip(),
                present.footnote(info, request.count, one, teacher, shown) if news else gr.skip(),
                self._archive(samplers, request, one, teacher) if final
                else no_download() if first else gr.skip(),
                request.seed if first else gr.skip(),  # another may be typed meanwhile
                query if first else gr.skip(),
                "" if first else gr.skip(),
            )
            first = False

    def _archive(self, samplers: Any, request: Request, one: Run, teacher: Run) -> Any:
        numbers = about(samplers, request) | {
            "one_step": one.numbers(), "teacher": teacher.numbers(), **speedup(one, teacher)
        }
        groups = {"one-step": one.images, "teacher": teacher.images}
        name = f"{as_file_name(samplers.pipe.name, longest=80)}-seed-{request.seed}.zip"
        path = keep_bytes(archive(groups, request.names, numbers), name)
        label = f"Download all (seed {request.seed})"
        return gr.DownloadButton(label, value=path, interactive=True)


def no_download() -> gr.DownloadButton:
    """What is there while nothing can be downloaded."""
    return gr.DownloadButton("Download all", value=None, interactive=False)


def first_seed(pipe: Any) -> int:
    """The seed that the page opens with."""
    return FIRST_SEEDS.get(pipe.name, 0)


def _numbers(one: Run | None, teacher: Run | None) -> str:
    return present.bars(one, teacher) + present.costs_of_both(one, teacher) + card_button(teacher)


def _session(visitor: gr.Request | None) -> str:
    return "" if visitor is None else str(visitor.session_hash)


def _ticket(given: Any) -> int:
    return int(given) if isinstance(given, str) and given.isdecimal() and len(given) < 20 else 0


def _address(pipe: Any, model: Any, name: Any, request: Request) -> str:
    preset = pipe.sampling.keywords()
    changed = {k: f"{v:g}" for k, v in request.sampling.keywords().items() if v != preset[k]}
    count = None if request.count == FIRST_COUNT else request.count
    return address(
        "compare", model or pipe.name, class_=name, count=count, seed=request.seed, **changed
    )
