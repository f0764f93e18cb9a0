"""Every control of every tab: whatever is typed is answered, by one sentence where it is wrong."""

import inspect
import re
from types import SimpleNamespace

import gradio as gr
import pytest

from app.html import present
from app.html.conclusions import is_best, plain, quality
from app.html.measured import results_of
from app.page import build_page
from app.serve.models import Models
from app.tabs.compare import CompareTab
from app.tabs.results import tables_of
from app.tabs.tab import Shared
from dd2core import Pipeline
from tests.support import tiny
from tests.support.app_helpers import demo_pipe

WRONG = [-5, 10**12, -(10**400), float("nan"), float("inf"), "seven", "", [], {"a": 1}, True]
TYPED = (gr.Number, gr.Slider)


@pytest.fixture(scope="module")
def page():
    return build_page(Models.of(Pipeline(tiny.model())))


def handlers(page):
    """What the page itself calls with something that can be typed, and which inputs that is."""
    for fn in page.fns.values():
        typed = [i for i, c in enumerate(fn.inputs) if isinstance(c, TYPED)]
        if fn.fn is not None and fn.api_visibility == "private" and typed:
            yield fn, typed


def answers(fn, values):
    """All that a handler says, as a list of tuples; its visitor is nobody."""
    first = next(iter(inspect.signature(fn.fn).parameters.values()), None)
    nobody = [None] if first is not None and first.name == "visitor" else []
    made = fn.fn(*nobody, *values)
    made = list(made) if inspect.isgenerator(made) else [made]
    return [one if isinstance(one, tuple) else (one,) for one in made]


def refusals(fn, values) -> list[str]:
    places = [i for i, c in enumerate(fn.outputs) if "dd2-no" in str(c.elem_classes)]
    said = [row[i] for row in answers(fn, values) for i in places if len(row) > i]
    return [re.sub("<[^>]+>", "", text) for text in said if isinstance(text, str) and text]


def test_every_typed_value_is_refused_in_one_sentence_at_the_control(page):
    tried = 0
    for fn, typed in handlers(page):
        name = fn.fn.__qualname__
        if name.endswith(".tidy") or name.startswith("CompareTab.paint"):
            continue  # the one only compares; for the other see below
        values = [getattr(c, "value", None) for c in fn.inputs]
        if name.endswith("_in_front"):
            values[0] = name.split(".")[0].removesuffix("Tab").lower()
        for place in typed:
            for wrong in WRONG:
                given = [wrong if i == place else v for i, v in enumerate(values)]
                said = refusals(fn, given)
                assert len(said) == 1, (name, place, wrong)
                assert re.fullmatch(r"[A-Z].{10,250}\.", said[0]), said
                tried += 1
            answers(fn, [None if i == place else v for i, v in enumerate(values)])  # an empty field
    assert tried > 100


def test_a_comparison_that_is_refused_leaves_the_page_as_it_is():
    tab = CompareTab(Models.of(Pipeline(tiny.model())))
    with gr.Blocks():
        tab.build(Shared(tab.models))
    good = [None, "All classes", 2, 0, None, None, None, None]
    for place in range(2, 8):
        for wrong in WRONG:
            given = [wrong if i == place else v for i, v in enumerate(good)]
            ticket, *panels, said = tab.begin(None, *given)
            assert ticket == "" and all(p == gr.skip() for p in panels) and "refusal" in said
            *rows, last = tab.paint(None, None, *given)
            assert not rows and "refusal" in last[-1] and "Stopped" in last[0]
    ticket, verdict, *_, said = tab.begin(None, *good)
    assert ticket.isdigit() and "Starting" in verdict and said == ""
    assert "Stopped" in tab.halt(None) and tab.halt(None) == gr.skip()
    assert list(tab.paint(None, ticket, *good)) == [(gr.skip(),) * len(tab.outputs)]


@pytest.mark.parametrize("step", range(17))
def test_what_is_not_painted_is_hatched_and_the_newest_token_is_framed(step):
    veil = present.unpainted([(i, i + 1) for i in range(16)], step)
    if step in (0, 16):
        assert veil == ""
        return
    corners = re.search(r"polygon\((.*?)\)", veil)[1].split(",")
    shape = [tuple(float(x.strip("%")) for x in corner.split()) for corner in corners]
    for token in range(16):
        row, column = divmod(token, 4)
        assert _inside(shape, 25 * column + 12.5, 25 * row + 12.5) == (token >= step)
    row, column = divmod(step - 1, 4)
    assert f"translate({100 * column}%,{100 * row}%)" in veil


def _inside(shape, x: float, y: float) -> bool:
    crossings = 0
    for (x1, y1), (x2, y2) in zip(shape, shape[1:] + shape[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            crossings += 1
    return crossings % 2 == 1


def test_a_scale_says_its_size_and_covers_the_image():
    scales = [(0, 1), (1, 5), (5, 14)]
    assert "2×2" in present.unpainted(scales, 2) and "hatch" not in present.unpainted(scales, 2)
    assert present.unpainted(scales, 3) == ""


def test_each_table_is_headed_by_what_to_conclude_and_bold_only_where_all_is_best():
    pipe = demo_pipe()
    results, shown = results_of(pipe), tables_of(pipe)
    one = next(m for m in results.of("quality") if m.method == "one_step")
    assert f"{one.fd:.2f}" in quality(results)
    sentences = re.findall(r'class="dd2-says">(.*?)</p>', shown)
    assert len(sentences) == shown.count("<h3>") and all(s.endswith(".") for s in sentences)
    rivals = [m for m in results.of("quality") if m.passes == 1]
    best = one.recall == max(m.recall for m in rivals) and one.fd == min(m.fd for m in rivals)
    assert ('class="best"' in shown) == best == is_best(one, rivals)
    assert "sweep-rate" not in shown
    assert plain("DD1, one step (rate 1e-3)") == "DD1, one step (learning rate 1e-3)"
    rows = [SimpleNamespace(passes=1, fd=fd, recall=r) for fd, r in ((1.0, 0.5), (2.0, 0.6))]
    assert not is_best(rows[0], rows) and is_best(rows[0], rows[:1])
