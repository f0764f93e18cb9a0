"""The page for everyone: no serious finding of axe-core on any tab, and nothing needs a mouse."""

import pytest

from app.page import TABS
from tests.conftest import unavailable
from tests.support.browser_helpers import open_tab, source

pytestmark = pytest.mark.browser
SETTLED = {"compare": ".dd2-done", "explore": "#stage img", "refine": "#refined img",
           "inside": "#inside svg", "results": "#tables table"}


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
        for finding in axe.run(tab).response["violations"]:
            if finding["impact"] in ("serious", "critical"):
                places = [node["html"][:160] for node in finding["nodes"]]
                found.append((kind.id, finding["id"], len(places), places[:3]))
    assert not found, "\n".join(map(str, found))


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


def _walk_to(tab, place: str) -> None:
    """Press Tab until `place` has the focus, at most once round the page."""
    for _ in range(120):
        if tab.evaluate("place => document.activeElement.matches(place)", place):
            return
        tab.keyboard.press("Tab")
    raise AssertionError(f"{place} cannot be reached with the Tab key")
