"""The address of a view, in headless Chromium: what a visitor may share and come back to."""

from urllib.parse import quote

import pytest

from tests.support.browser_helpers import images, query

pytestmark = pytest.mark.browser


def test_each_tab_has_its_own_address_whatever_ends_behind_it(visit, slow):
    tab = visit("class=Bag&seed=5&count=2")
    tab.wait_for_selector("#teacher img")
    tab.click("button[role=tab]:has-text('Explore')")
    tab.wait_for_function("location.search.includes('tab=explore')")
    tab.click("button[role=tab]:has-text('Refine')")
    tab.wait_for_function("location.search.includes('tab=refine')")
    tab.wait_for_selector(".dd2-done", state="attached")  # the comparison ends behind it
    tab.wait_for_timeout(300)
    assert query(tab)["tab"] == "refine"
    tab.click("button[role=tab]:has-text('Explore')")
    tab.wait_for_function("location.search.includes('tab=explore')")
    assert "to" in query(tab)
    tab.click("button[role=tab]:has-text('Compare')")
    tab.wait_for_function("!location.search.includes('tab=')")
    assert {k: query(tab)[k] for k in ("class", "seed", "count")} == {
        "class": "Bag", "seed": "5", "count": "2"}
    assert "to" not in query(tab) and "at" not in query(tab)


def test_after_an_opened_tab_compare_has_the_part_of_the_address_that_it_took(visit):
    tab = visit("tab=explore&class=Bag&seed=5&to=6&at=0.3")
    tab.wait_for_selector("#stage img")
    tab.click("button[role=tab]:has-text('Compare')")
    tab.wait_for_function("!location.search.includes('tab=')")
    assert query(tab) == {"__theme": "light", "class": "Bag", "seed": "5"}


def test_another_model_ends_the_comparison_of_the_first(visit, slow):
    tab = visit("class=Bag&seed=5&count=2")
    tab.wait_for_selector("#teacher img")
    tab.select_option("#model select", "tiny-var")
    tab.wait_for_function("document.querySelector('h1').innerText.includes('of 3')")
    tab.wait_for_selector(".dd2-done")  # not after the first one's forty-nine steps
    tab.wait_for_timeout(500)
    assert "tiny-var" in tab.inner_text("#machine") and query(tab)["model"] == "tiny-var"
    assert (query(tab)["seed"], query(tab)["count"]) == ("5", "2")
    assert not any("Bag" in image["text"] for image in images(tab, "#teacher"))


def test_what_an_address_brings_is_shown_as_text(visit):
    tab = visit("seed=" + quote("<img src=x alt=bad>") + "&count=1")
    tab.wait_for_selector(".toast-body >> text=<img src=x alt=bad>")
    assert tab.locator("img[alt=bad]").count() == 0
    tab.wait_for_selector(".dd2-done")
