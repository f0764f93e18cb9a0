"""What the front tab shows can be trusted: in headless Chromium, at desk and at phone width."""

import re
import time

import pytest

from app.html import present
from tests.support.browser_helpers import open_tab, source, step

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("width", [1280, 360])]

CLOCKS = """window.clocks = [];
new MutationObserver(() => {
  const text = document.querySelector("#teacher .dd2-clock")?.textContent;
  if (text) window.clocks.push(parseFloat(text) * (text.includes("ms") ? 1 : 1000));
}).observe(document.body, {childList: true, subtree: true, characterData: true})"""

STEPS = """window.steps = [0];
new MutationObserver(() => {
  if (document.querySelector("#machine").innerText.includes("seed 77")) return;
  const panel = document.querySelector("#teacher .dd2-panel"); /* none before the first preview */
  if (panel) window.steps.push(+panel.dataset.step);
}).observe(document.querySelector("#teacher"),
  {childList: true, subtree: true, attributes: true})"""


def milliseconds(text: str) -> float:
    number, unit = text.split()[:2]
    return float(number) * {"ms": 1, "s": 1000}[unit]


def waited(tab) -> float:
    return milliseconds(tab.inner_text("#bars [data-waited=two][data-told]"))


def seed_of(tab):
    return tab.locator("#seed input")


def test_clocks_only_climb_and_the_headline_leads_with_what_cannot_vary(
    visit, shown_pipe, width
):
    shown_pipe.pause = 0.02
    tab = visit("class=Bag&count=2&seed=5", width)
    tab.wait_for_selector(".dd2-done")
    tab.evaluate(CLOCKS)
    since = time.monotonic()
    seed_of(tab).fill("6")
    seed_of(tab).press("Enter")  # compares
    tab.wait_for_selector("#machine >> text=seed 6")
    tab.wait_for_selector(".dd2-done")
    took = 1000 * (time.monotonic() - since)
    assert 0.02 * 25 * 1000 < waited(tab) < took
    seen = tab.evaluate("window.clocks")
    seen = seen[seen.index(0):]  # from the start of this comparison on
    assert seen == sorted(seen) and seen[-1] > 0
    head, note = tab.inner_text("#verdict").split("\n", 1)
    assert head == f"1 pass instead of {shown_pipe.teacher.num_steps}"
    spread = r"half of the readings: .*× to .*×|the teacher was read once"
    assert re.search(rf"\d× .*machine \(({spread})\)", note)
    assert "measured again without previews" in tab.inner_text("#one-step")
    assert "measured again without previews" in tab.inner_text("#teacher")
    assert "1 pass" in tab.inner_text("#race") and tab.locator("#race .dd2-replay").is_enabled()


def test_compare_while_it_runs_starts_again_and_stop_leaves_no_old_ratio(
    visit, shown_pipe, slow, width
):
    shown_pipe.pause = 0.6  # of each preview: the second click comes in time on a busy machine
    tab = visit("class=Bag&count=2&seed=6", width)
    tab.wait_for_function("+document.querySelector('#teacher .dd2-panel').dataset.step > 2")
    tab.evaluate(STEPS)
    seed_of(tab).fill("77")
    tab.click("#compare")
    tab.wait_for_selector("#machine >> text=seed 77")
    assert tab.evaluate("Math.max(...steps)") < shown_pipe.teacher.num_steps  # the first one ended
    shown_pipe.pause = 0.0
    tab.wait_for_selector(".dd2-done")
    label = shown_pipe.class_names.index("Bag")
    expected = present.data_uri(shown_pipe.sample_one_step([label] * 2, seed=77).images[0])
    assert source(tab, "#one-step") == expected and "seed=77" in tab.url
    assert "seed 77" in tab.inner_text("#download")

    shown_pipe.pause = 0.6
    tab.click("#compare")
    tab.wait_for_function("!document.querySelector('.dd2-done')")
    assert tab.locator("#download").is_disabled()
    tab.wait_for_selector("#teacher .dd2-panel")
    tab.click("#stop")
    tab.wait_for_selector("#verdict >> text=Stopped")
    tab.wait_for_timeout(400)
    halted = step(tab)
    tab.wait_for_timeout(500)
    assert step(tab) == halted < shown_pipe.teacher.num_steps
    assert "×" not in tab.inner_text("#verdict") and tab.locator("#race .dd2-replay").is_disabled()


def test_an_unchanged_model_changes_nothing_by_mouse_or_keyboard(visit, width):
    tab = visit("class=Bag&count=2&seed=6", width)
    tab.wait_for_selector(".dd2-done")
    seed_of(tab).fill("4")
    before = source(tab, "#one-step")
    asked = []
    tab.on("request", lambda r: r.method == "POST" and asked.append(r.url))
    picker = tab.locator("#model select")
    picker.focus()
    tab.keyboard.press("Tab")  # leaves it
    picker.select_option("fashion-llamagen")
    picker.click()
    tab.keyboard.press("Escape")
    open_tab(tab, "Results")
    tab.wait_for_function("location.search.includes('tab=results')")
    tab.wait_for_selector("#tables table")
    open_tab(tab, "Compare")
    tab.wait_for_timeout(300)
    assert seed_of(tab).input_value() == "4" and source(tab, "#one-step") == before
    assert tab.is_visible(".dd2-done")
    assert len([url for url in asked if "/run/" in url]) <= 1  # what Results asked for


def test_what_is_refused_is_said_at_the_control_and_old_sheets_go(visit, width):
    tab = visit("tab=explore&class=Bag&seed=3&to=4", width)
    tab.wait_for_selector("#stage img")
    tab.click("#gif")
    tab.wait_for_selector("#sheet .dd2-gif")
    assert tab.locator("#download-gif").is_enabled()
    before = source(tab, "#stage")
    tab.fill("#from-seed input", "-5")
    tab.wait_for_selector(".dd2-no >> text=The seed must be from 0 to 4294967295, not -5.")
    near = tab.evaluate("""() => document.querySelector('.dd2-refusal:not(:empty)')
        .getBoundingClientRect().top - document.querySelector('#from-seed')
        .getBoundingClientRect().bottom""")
    assert 0 <= near < 60 and source(tab, "#stage") == before
    tab.fill("#from-seed input", "8")
    tab.wait_for_function("!document.querySelector('#sheet img')")
    assert tab.locator("#download-gif").is_disabled()
    tab.wait_for_function("![...document.querySelectorAll('.dd2-refusal')].length")
    tab.click("#stage [data-class=Sandal]")  # a small picture chooses its class
    tab.wait_for_selector("#stage .now img[alt^='Sandal, 50%']")
    assert "class=Sandal" in tab.url


def test_arrows_move_between_tabs_and_back_returns(visit, width):
    tab = visit("count=1", width)
    tab.wait_for_selector(".dd2-done")
    tab.locator("#tab-compare-button").focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("location.search.includes('tab=explore')")
    tab.wait_for_selector("#stage img")
    assert tab.evaluate("document.activeElement.id") == "tab-explore-button"
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_function("!location.search.includes('tab=')")
    open_tab(tab, "Results")
    tab.wait_for_function("location.search.includes('tab=results')")
    for where in ("compare", "explore"):
        tab.go_back()
        tab.wait_for_selector(f"#tab-{where}-button[aria-selected=true]")
    assert "tab=explore" in tab.url
    tab.click("text=Use it from a program")
    here = tab.evaluate("location.origin")
    tab.wait_for_selector(f".dd2-code >> text={here}")
