"""The page in headless Chromium: what a visitor sees, at desk and at phone width."""

import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.app_helpers import demo_pipe, serve

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ARTIFACTS = Path(__file__).parent / "artifacts"
SIZES = [(1280, 900, "light"), (1280, 900, "dark"), (360, 740, "light"), (360, 740, "dark")]


def unavailable(reason: str) -> None:
    """Skip, unless whoever runs the tests insists on a browser."""
    if os.environ.get("DD2_REQUIRE_BROWSER") == "1":
        pytest.fail(f"DD2_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed")
    if not os.access(CHROMIUM, os.X_OK):
        unavailable(f"there is no {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class SlowTeacher:
    """The pipeline, with a teacher slow enough to be watched and stopped."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def stream_teacher(self, *arguments, **options):
        for part in self.pipe.stream_teacher(*arguments, **options):
            yield part
            time.sleep(0.15)


@pytest.fixture(scope="module")
def pipe():
    return demo_pipe()


@pytest.fixture(scope="module")
def url(pipe):
    with serve(pipe) as address:
        yield address


@pytest.fixture(scope="module")
def slow_url(pipe):
    with serve(SlowTeacher(pipe)) as address:
        yield address


@pytest.fixture
def visit(browser):
    """Opens the page; at the end no visit may have seen an error or called another host."""
    visits = []

    def open_page(url: str, width: int = 1280, height: int = 900, mode: str = "light"):
        tab = browser.new_page(viewport={"width": width, "height": height})
        seen = SimpleNamespace(tab=tab, trouble=[])
        visits.append(seen)
        tab.on("console", lambda m: m.type == "error" and seen.trouble.append(m.text))
        tab.on("pageerror", lambda error: seen.trouble.append(str(error)))
        tab.on("request", lambda r: is_foreign(r.url) and seen.trouble.append(r.url))
        tab.goto(f"{url}/?__theme={mode}")
        tab.wait_for_selector("#compare")
        return tab

    yield open_page
    for seen in visits:
        seen.tab.close()
        assert not seen.trouble


def is_foreign(address: str) -> bool:
    return not re.match(r"(data|blob):|(http|ws)://127\.0\.0\.1[:/]", address)


def top(tab, selector: str) -> float:
    return tab.evaluate(
        "s => document.querySelector(s).getBoundingClientRect().top + scrollY", selector
    )


def images(tab, panel: str) -> list[dict]:
    """Text and true width of each painted image of a panel."""
    return tab.eval_on_selector_all(
        f"{panel} img", "all => all.map(i => ({text: i.alt, width: i.naturalWidth}))"
    )


def step(tab) -> int:
    """How far the teacher's panel says it is."""
    return int(tab.inner_text("#teacher small").split()[0])


@pytest.mark.parametrize(("width", "height", "mode"), SIZES)
def test_a_comparison_from_start_to_end(visit, url, pipe, width, height, mode):
    tab = visit(url, width, height, mode)
    assert images(tab, "#one-step") == []
    places = [top(tab, "#teacher"), top(tab, "#machine")]
    tab.click("#compare")
    tab.wait_for_selector(".dd2-done", timeout=60_000)

    assert re.fullmatch(r"\d+(\.\d+)?×", tab.inner_text(".dd2-done b"))
    assert step(tab) == pipe.teacher.num_steps
    for panel in ("#one-step", "#teacher"):
        shown = images(tab, panel)
        assert len(shown) == 8
        assert all(image["text"] and image["width"] == pipe.image_size for image in shown)
        costs = tab.inner_text(f"{panel} dl")
        assert all(word in costs for word in ("model", "decoder", "Forward passes", "Wall clock"))
        assert "–" not in costs  # every number is there

    machine = tab.inner_text("#machine")
    assert "cpu" in machine and "float32" in machine and "batch of 8" in machine
    assert "thread" in machine
    assert [top(tab, "#teacher"), top(tab, "#machine")] == places  # no layout jump
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    stacked = top(tab, "#teacher") > top(tab, "#one-step")
    assert stacked == (width < 600)
    ARTIFACTS.mkdir(exist_ok=True)
    tab.screenshot(path=ARTIFACTS / f"compare-{width}-{mode}.png", full_page=True)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(visit, url, width):
    tab = visit(url, width)
    for title in ("Teacher’s settings", "Use it from a program"):
        tab.click(f"text={title}")
    tab.wait_for_selector("pre >> visible=true")
    tab.wait_for_selector("label:has-text('Temperature') >> visible=true")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_one_step_is_there_at_once_and_the_teacher_paints_beside_it(visit, slow_url, pipe):
    tab = visit(slow_url)
    tab.click("#compare")
    tab.wait_for_selector("#one-step img")
    finished = tab.eval_on_selector("#one-step img", "i => i.src")
    tab.wait_for_selector("#teacher img")
    early, first = tab.eval_on_selector("#teacher img", "i => i.src"), step(tab)
    assert first < pipe.teacher.num_steps
    tab.wait_for_selector(".dd2-done", timeout=60_000)
    assert tab.eval_on_selector("#teacher img", "i => i.src") != early
    assert tab.eval_on_selector("#one-step img", "i => i.src") == finished


def test_stop_stops_the_teacher(visit, slow_url, pipe):
    tab = visit(slow_url)
    tab.click("#compare")
    tab.wait_for_selector("#teacher img")
    tab.click("#stop")
    tab.wait_for_selector("#verdict >> text=Stopped")
    tab.wait_for_timeout(500)
    halted = step(tab)
    tab.wait_for_timeout(1000)
    assert step(tab) == halted < pipe.teacher.num_steps
    tab.click("#compare")  # the next comparison runs, and Stop leaves its result alone
    tab.wait_for_selector(".dd2-done", timeout=60_000)
    tab.click("#stop")
    tab.wait_for_timeout(500)
    assert tab.is_visible(".dd2-done")


def test_the_seed_is_reusable_and_a_new_one_is_written_back(visit, url):
    tab = visit(url)
    seed = tab.locator("label:has-text('Seed') input").first
    forget = "document.querySelector('.dd2-done')?.classList.remove('dd2-done')"

    def painted(button: str) -> tuple[str, str]:
        tab.evaluate(forget)  # so that the wait below is for the new verdict
        tab.click(button)
        tab.wait_for_selector(".dd2-done", timeout=60_000)
        return seed.input_value(), tab.eval_on_selector("#one-step img", "i => i.src")

    first = painted("#compare")
    assert first[0] == "0"
    assert painted("#compare") == first
    fresh = painted("#random")
    assert fresh[0].isdigit() and fresh[0] != "0" and fresh[1] != first[1]
    assert painted("#compare") == fresh


def test_a_wrong_seed_is_explained_in_one_sentence(visit, url):
    tab = visit(url)
    tab.locator("label:has-text('Seed') input").first.fill("-3")
    tab.click("#compare")
    toast = tab.wait_for_selector(".toast-body")
    assert "The seed must be from 0 to 4294967295, not -3." in toast.inner_text()
    assert "Traceback" not in toast.inner_text()
    assert images(tab, "#one-step") == []
