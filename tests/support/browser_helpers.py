"""What the tests in the browser share: looking at the page, and a browser to look with."""

import re
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

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
ARTIFACTS = Path(__file__).parents[1] / "artifacts"


class SlowTeacher:
    """The pipeline, with a teacher that is slow enough to be watched and stopped on request."""

    def __init__(self, pipe):
        self.pipe, self.pause = pipe, 0.0

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def stream_teacher(self, *arguments, **options):
        for part in self.pipe.stream_teacher(*arguments, **options):
            yield part
            time.sleep(self.pause)


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


def source(tab, panel: str) -> str:
    """The first image of a panel."""
    return tab.eval_on_selector(f"{panel} img", "i => i.src")


def step(tab) -> int:
    """How far the teacher's panel says it is."""
    return int(tab.get_attribute("#teacher .dd2-panel", "data-step"))


def open_tab(tab, title: str) -> None:
    """Bring a tab to the front."""
    tab.click(f"button[role=tab]:has-text('{title}')")


def is_tidy(tab) -> bool:
    """Nothing is wider than the window, and every image has a text."""
    fits = tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    bare = "all => all.filter(i => i.offsetParent && !i.alt.trim()).length"
    return fits and tab.eval_on_selector_all(".dd2-flush img", bare) == 0


def keep(tab, name: str) -> None:
    """A screenshot for a human."""
    ARTIFACTS.mkdir(exist_ok=True)
    tab.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


def query(tab) -> dict[str, str]:
    """The parameters in the address bar."""
    return dict(parse_qsl(urlsplit(tab.url).query))
