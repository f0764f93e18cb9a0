"""The page for everyone: no serious finding of axe-core on any tab, and nothing needs a mouse."""

import pytest

from app.page import TABS
from tests.conftest import unavailable
from tests.support.browser_helpers import open_tab, source

pytestmark = pytest.mark.browser
SETTLED = {"compare": ".dd2-done", "explore": "#stage img", "refine": "#refined img",
           "inside": "#inside svg", "results": "#tables table"}

TURNED = """() => document.getAnimations().filter(a => a instanceof CSSTransition)
  .every(a => a.playState !== "running")"""  # from the one colour to the other


@pytest.fixture(scope="module")
def axe():
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        unavailable("axe-playwright-python is not installed")
    return Axe()


@pytest.mark.parametrize("width, mode", [(1280, "light"), (360, "dark")])
def test_no_tab_has_a_serious_finding_with_everything_unfolded(visit, axe, width, mode):
    tab = visit("class=Bag&count=2&seed=5", width, mode)
    found = []
    for kind in TABS:
        open_tab(tab, kind.title)
        tab.wait_for_selector(SETTLED.get(kind.id, f"#tab-{kind.id}"))
        folded = "button.label-wrap:not(.open)"
        tab.eval_on_selector_all(folded, "all => all.forEach(b => b.click())")
        tab.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
        tab.wait_for_timeout(300)  # unfolding
        found += serious(kind.id, axe.run(tab))
        # The other colours change contrasts and nothing else.
        tab.evaluate("document.body.classList.toggle('dark')")
        tab.wait_for_timeout(100)
        tab.wait_for_function(TURNED)
        found += serious(f"{kind.id}, other colours", axe.run(tab, options={
            "runOnly": ["color-contrast"]}))
        tab.evaluate("document.body.classList.toggle('dark')")
    assert not found, "\n".join(map(str, found))


def serious(where: str, answer) -> list[tuple]:
    """The findings that keep somebody out."""
    return [(where, finding["id"], [node["html"][:160] for node in finding["nodes"]][:3])
            for finding in answer.response["violations"]
            if finding["impact"] in ("serious", "critical")]


def test_the_page_is_used_with_the_keyboard_alone(visit):
    tab = visit("count=1&seed=5&class=Bag")
    tab.wait_for_selector(".dd2-done")
    before = source(tab, "#one-step")
    _walk_to(tab, "#seed input")
    tab.keyboard.press("Control+A")
    tab.keyboard.type("8")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#machine >> text=seed 8")
    tab.wait_for_selector(".dd2-done")
    assert source(tab, "#one-step") != before
    for place in ("#compare", "#random", "#stop", "#model select", "#race .dd2-replay"):
        _walk_to(tab, place)
    _walk_to(tab, "#tab-compare-button")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector("#stage img")
    _walk_to(tab, "#place input[type=range]")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector("#stage >> text=51%")
    _walk_to(tab, "#stage [data-class=Sandal]")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#stage .now img[alt^='Sandal']")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    _walk_to(tab, ".dd2-pad")
    tab.keyboard.press("ArrowUp")
    tab.wait_for_selector("#stage .now img[alt='Sandal, 46% of the way']")


def test_every_other_tab_is_used_with_the_keyboard_alone(visit):
    tab = visit("tab=gallery&seed=5&class=Bag")
    tab.wait_for_selector("#gallery img")
    _walk_to(tab, "#gallery [data-class='3']")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#chosen h2 >> text=Bag, seed 8")
    _walk_to(tab, "#chosen a")
    _next_tab(tab, "gallery")
    tab.wait_for_selector("#kept img")
    _walk_to(tab, "#sketch [data-do=none]")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#kept >> text=0 of 49 tokens erased")
    _walk_to(tab, "#sketch [data-do=right]")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#kept >> text=28 of 49 tokens erased")
    _walk_to(tab, "#fill")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#filled .dd2-way:nth-child(3) img")
    _next_tab(tab, "picture")
    tab.wait_for_selector("#refined img")
    _walk_to(tab, "#passes input[type=range]")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector("#refined h2:has-text('3 passes')")
    _next_tab(tab, "refine")
    tab.wait_for_selector("#inside svg")
    _walk_to(tab, "#token input[type=range]")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector("#inside >> text=Token 25, decided at step 25")
    _next_tab(tab, "inside")
    tab.wait_for_selector("#tables table")
    _walk_to(tab, "#tables summary")
    tab.keyboard.press("Enter")
    assert tab.eval_on_selector("#tables details", "d => d.open")
    assert tab.inner_text("#tab-results-button")


def _next_tab(tab, now: str) -> None:
    """To the tab after the one in front, by the arrow key."""
    _walk_to(tab, f"#tab-{now}-button")
    tab.keyboard.press("ArrowRight")


def _walk_to(tab, place: str) -> None:
    """Press Tab until `place` has the focus, at most once round the page."""
    for _ in range(250):
        if tab.evaluate("place => document.activeElement.matches(place)", place):
            return
        tab.keyboard.press("Tab")
    raise AssertionError(f"{place} cannot be reached with the Tab key")
