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
from app.requests import all_classes
from app.serve.models import Models
from app.serve.runs import Samplers
from app.tabs.compare import CompareTab
from app.tabs.results import tables_of
from app.tabs.tab import Shared, first_class
from dd2core import DD2Error, Pipeline
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
    return [tuple(one) if isinstance(one, tuple | list) else (one,) for one in made]


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


@pytest.fixture
def with_broken(monkeypatch):
    """A page that offers a second model, which nothing can load."""
    def load(name, device):
        raise DD2Error(f"The weights of {name} are damaged: download them again.")

    monkeypatch.setattr("app.serve.models.load_pipeline", load)
    pipe = Pipeline(tiny.model())
    models = Models([pipe.name, "broken"])
    models._loaded[pipe.name] = Samplers(pipe)
    page = build_page(models)
    page.first_model = pipe.name
    return page


def test_a_model_that_cannot_be_loaded_is_one_sentence_at_every_control(with_broken):
    tried = set()
    for fn in with_broken.fns.values():
        where = [i for i, c in enumerate(fn.inputs) if getattr(c, "elem_id", None) == "model"]
        if fn.fn is None or fn.api_visibility != "private" or not where:
            continue
        name = fn.fn.__qualname__
        if name.endswith(".tidy") or name == "CompareTab.paint":
            continue  # the one asks no model, the other answers to a ticket alone
        values = [getattr(c, "value", None) for c in fn.inputs]
        values[where[0]] = "broken"
        if name.endswith("_in_front"):
            values[0] = name.split(".")[0].removesuffix("Tab").lower()
        assert refusals(fn, values) == ["The weights of broken are damaged: download them again."]
        tried.add(name)
    assert {"CompareTab.begin", "CompareTab.example", "ExploreTab.paint", "ExploreTab.morph",
            "RefineTab.paint", "InsideTab.show", "ResultsTab.show_all_in_front"} <= tried


def test_a_picked_model_that_cannot_be_loaded_leaves_the_page_with_the_last_one(with_broken):
    picks = {fn.fn.__name__: fn for fn in with_broken.fns.values() if fn.fn is not None}
    pick, opened = picks["pick_model"], picks["open_view"]
    (made,) = answers(pick, ["broken", "tiny", "", "", "compare"])
    assert len(made) == len(pick.outputs) and made[0] == "tiny" and "damaged" in made[-1]
    assert all(value == gr.skip() for value in (*made[1:-3], made[-2])) and made[-3].isdecimal()
    (made,) = answers(opened, ["?model=broken"])
    assert len(made) == len(opened.outputs) and "damaged" in made[-1]
    assert made[0] == made[-2] == with_broken.first_model


def test_what_begins_by_itself_never_ends_what_the_visitor_has_begun_since(with_broken):
    by_name = {fn.fn.__qualname__: fn for fn in with_broken.fns.values() if fn.fn is not None}
    begin, paint = by_name["CompareTab.begin"], by_name["CompareTab.paint"]
    alone = by_name["CompareTab.paint_in_front"]
    typed = ["tiny", "All classes", 1, 9, None, None, None, None]

    def arrived(model):
        made = answers(by_name["_connect.<locals>.pick_model"], [model, "tiny", "", "", "compare"])
        return made[0][-3]

    ticket = arrived("broken")
    clicked = answers(begin, typed)[0][0]
    assert all(v == gr.skip() for v in answers(alone, ["compare", ticket, *typed])[0])
    shown = answers(paint, [clicked, *typed])
    assert len(shown) > 1 and "seed=9" in str(shown[0])
    ticket = arrived("tiny")  # and where nobody clicks, it paints
    assert len(answers(alone, ["compare", ticket, *typed])) > 1
    arrived("tiny")  # the front is not in front: nothing is left for Stop to stop
    ticket = arrived("tiny")
    assert all(v == gr.skip() for v in answers(alone, ["explore", ticket, *typed])[0])
    assert answers(by_name["CompareTab.halt"], []) == [(gr.skip(),)]


def test_where_nothing_begins_by_itself_there_is_nothing_to_stop(with_broken, monkeypatch):
    by_name = {fn.fn.__qualname__: fn for fn in with_broken.fns.values() if fn.fn is not None}
    monkeypatch.setattr("app.zero.LENT", True)
    answers(by_name["_connect.<locals>.open_view"], [""])
    assert answers(by_name["CompareTab.halt"], []) == [(gr.skip(),)]


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


def test_of_more_classes_than_images_some_are_taken_from_all_over_the_list():
    assert all_classes(3, 4) == [0, 1, 2, 0] and all_classes(4, 4) == [0, 1, 2, 3]
    assert all_classes(30, 8) == [0, 3, 7, 11, 15, 18, 22, 26] and all_classes(30, 1) == [0]


def test_tabs_of_one_class_open_with_one_that_people_know():
    assert first_class(["arrows", "happy faces"]) == "happy faces"
    assert first_class(["All classes", "happy faces"]) == "All classes"
    assert first_class(["Trouser", "Coat"]) == "Trouser"
