"""A model in colour with thirty classes of long names: nothing assumes grey, 28 pixels or ten."""

import pytest

from dd2core.pipeline import Pipeline
from tests.support import tiny_colour
from tests.support.app_helpers import serve
from tests.support.browser_helpers import images, is_tidy, keep, open_tab

pytestmark = pytest.mark.browser
BEFORE = """all => all.map(l => { const s = getComputedStyle(l, "::before");
  return [l.getAttribute("aria-label"), s.content, s.width, s.backgroundPosition]; })"""


@pytest.fixture(scope="module")
def shown_url():
    with serve(Pipeline(tiny_colour.model())) as address:
        yield address


def tidy_at_both_widths(tab, name: str) -> bool:
    """At phone and at desk width, with a screenshot of each."""
    tidy = []
    for width in (360, 1280):
        tab.set_viewport_size({"width": width, "height": 740})
        tab.wait_for_timeout(200)
        keep(tab, f"colour-{name}-{width}")
        tidy.append(is_tidy(tab))
    return all(tidy)


def test_every_tab_takes_colour_larger_pictures_and_many_long_names(visit):
    tab = visit("count=2&seed=1")
    tab.wait_for_selector(".dd2-done")
    for panel in ("#one-step", "#teacher"):
        assert [i["width"] for i in images(tab, panel)] == [48] * 2
    assert tab.locator("#one-step img.dd2-hard").count() == 0
    assert "1 pass instead of 64" in tab.inner_text("#verdict")
    assert tidy_at_both_widths(tab, "compare")

    tab.locator("#tab-compare .dd2-classes input").click()
    tab.wait_for_selector("li[role=option] >> nth=30")
    found = tab.eval_on_selector_all("li[role=option]", BEFORE)
    assert [name for name, *_ in found] == ["All classes", *tiny_colour.CLASSES]
    assert found[0][1] == "none" and {tuple(row[1:3]) for row in found[1:]} == {('""', "32px")}
    assert [at for *_, at in found[1:]] == [f"{-32 * i}px 0px" for i in range(30)]
    keep(tab, "colour-classes")
    tab.keyboard.press("Escape")

    open_tab(tab, "Explore")
    tab.wait_for_selector("#pad img")
    tab.locator("#tab-explore .dd2-classes input").fill("signs")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#stage .now img[alt*='<flags>']")
    strip = tab.eval_on_selector_all("#stage .dd2-choose", "all => all.map(b => b.dataset.class)")
    assert strip == tiny_colour.CLASSES[20:]
    tab.wait_for_function("document.querySelector('.dd2-pad').dataset.classes.includes('flags')")
    assert tab.eval_on_selector(".dd2-knob", "k => k.style.left") == "90%"
    assert tidy_at_both_widths(tab, "explore")

    open_tab(tab, "Gallery")
    tab.wait_for_selector("#gallery img")
    assert [i["width"] for i in images(tab, "#gallery")] == [48] * 64
    assert tidy_at_both_widths(tab, "gallery")
    open_tab(tab, "Your picture")
    tab.wait_for_selector("#kept img")
    tab.click("#fill")
    tab.wait_for_selector("#filled .dd2-way:nth-child(3) img")
    assert "32 by the teacher · 32 passes" in tab.inner_text("#filled")
    assert tidy_at_both_widths(tab, "picture")
    open_tab(tab, "Refine")
    tab.wait_for_selector("#refined img")
    assert "passes" in tab.inner_text("#refined") and tidy_at_both_widths(tab, "refine")
    open_tab(tab, "Inside")
    tab.wait_for_selector("#inside svg")
    assert "of 2048 codes" in tab.inner_text("#inside") and tidy_at_both_widths(tab, "inside")
    open_tab(tab, "Results")
    tab.wait_for_selector("#tables >> text=No measurements lie beside this model.")
    assert tidy_at_both_widths(tab, "results")
