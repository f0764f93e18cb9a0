"""Fixtures shared by all tests."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["DD2_WEB"] = ""  # no page for the browser but the one that a test names
os.environ.pop("DD2_ENGINE", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # each has a core to itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from types import SimpleNamespace

import pytest

from tests.harness.workers import dry_last, scheduler, slowest_first
from tests.support.browser_helpers import ARGUMENTS, CHROMIUM, SlowTeacher, is_foreign

# torch and the page are imported by the fixtures: the process that hands out the tests needs none.


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        slowest_first(items)
    else:
        dry_last(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return scheduler(config, log)


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def gradio_files(tmp_path_factory):
    """Gradio keeps what it serves below pytest's own folder, which pytest clears."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="session")
def teacher():
    """A random teacher."""
    from tests.support import tiny

    return tiny.teacher()


@pytest.fixture(scope="session")
def tiny_pipe():
    """A pipeline over random weights: 16-pixel grey images, 16 steps, three classes."""
    from dd2core.pipeline import Pipeline
    from tests.support import tiny

    return Pipeline(tiny.model())


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


@pytest.fixture(scope="module")
def shown_pipe():
    from tests.support.app_helpers import demo_pipe

    return SlowTeacher(demo_pipe())


@pytest.fixture(scope="module")
def shown_url(shown_pipe):
    from dd2core.pipeline import Pipeline
    from tests.support import tiny_var
    from tests.support.app_helpers import serve

    with serve(shown_pipe, Pipeline(tiny_var.model())) as address:
        yield address


@pytest.fixture
def slow(shown_pipe):
    shown_pipe.pause = 0.15
    yield
    shown_pipe.pause = 0.0


@pytest.fixture
def visit(browser, shown_url):
    """Opens the page; at the end no visit may have seen an error or called another host."""
    visits = []

    def open_page(query: str = "", width: int = 1280, mode: str = "light"):
        tab = browser.new_page(viewport={"width": width, "height": 900 if width > 500 else 740})
        tab.set_default_timeout(120_000)
        seen = SimpleNamespace(tab=tab, trouble=[])
        visits.append(seen)
        tab.on("console", lambda m: m.type == "error" and seen.trouble.append(m.text))
        tab.on("pageerror", lambda error: seen.trouble.append(str(error)))
        tab.on("request", lambda r: is_foreign(r.url) and seen.trouble.append(r.url))
        tab.goto(f"{shown_url}/?__theme={mode}&{query}")
        tab.wait_for_selector("#tabs")
        return tab

    yield open_page
    for seen in visits:
        seen.tab.close()
        assert not seen.trouble
