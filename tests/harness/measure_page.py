"""What the README says of the page, measured in Chromium on the machine as it is:

    python -m tests.harness.measure_page                     # starts the page itself
    python -m tests.harness.measure_page clicks=5 url=http://127.0.0.1:7860
    python -m tests.harness.measure_page parts=ratio,slider  # of load, ratio and slider
    python -m tests.harness.measure_page model=fashion-var   # another one than the page opens with

Ratio over clicks with the same settings (all within ±15% of their median on two cores that nothing
else uses), layout shift on load (under 0.05) and time to the first one-step picture (under 1.5 s)
at both widths, latency of the slider in Explore. Prints the load average, without which no number
means much.
"""

import os
import re
import signal
import sys
from statistics import median

from playwright.sync_api import sync_playwright

from tests.harness.load_clients import start
from tests.support.browser_helpers import ARGUMENTS, CHROMIUM

SIZES = ((1280, 800), (360, 740))
RATIO = re.compile(r"([\d.]+)×")
WATCH = """(() => {
  window.seen = {shift: 0, first: null, own: null, parts: []};
  new PerformanceObserver(list => list.getEntries().forEach(e => {
    if (e.hadRecentInput) return;
    seen.shift += e.value;
    seen.parts.push([Math.round(e.startTime), +e.value.toFixed(4),
      e.sources.slice(0, 2).map(s => (s.node?.id || s.node?.className || s.node?.nodeName) + "")]);
  })).observe({type: "layout-shift", buffered: true});
  const look = () => { // asked before a frame is painted: the time of the frame after it counts
    const there = (place) => [...document.querySelectorAll(place)].some(i =>
      i.complete && i.naturalWidth && i.checkVisibility({visibilityProperty: true}));
    if (seen.first === null && there(":is(#dd2-first, #one-step) img")) {
      requestAnimationFrame(() => { seen.first ??= performance.now(); });
    }
    if (seen.own === null && there("#one-step img")) seen.own = performance.now();
    if (seen.own === null) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()"""
SLIDE = """async turns => {
  const stage = document.querySelector("#stage"), took = [];
  const slider = document.querySelector("#place input[type=range]");
  for (let i = 0; i < turns; i++) {
    const since = performance.now(), wanted = `${i + 10}%`;
    slider.value = (i + 10) / 100;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    slider.dispatchEvent(new PointerEvent("pointerup", {bubbles: true}));
    while (!stage.innerText.includes(wanted)) await new Promise(requestAnimationFrame);
    took.push(performance.now() - since);
  }
  return took;
}"""


def load(browser, url: str) -> None:
    """Layout shift until the comparison is done, and the first picture, at both sizes."""
    for width, height in SIZES:
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.add_init_script(WATCH)
        tab.goto(url)
        tab.wait_for_selector(".dd2-done", timeout=120_000)
        seen = tab.evaluate("window.seen")
        print(f"{width}×{height}: layout shift {seen['shift']:.3f}, first one-step picture after "
              f"{seen['first'] / 1000:.2f} s, that of the page's own panel (its scripts have run) "
              f"after {seen['own'] / 1000:.2f} s")
        for part in sorted(seen["parts"], key=lambda part: -part[1])[:3]:
            print(f"  {part[1]} at {part[0]} ms: {part[2]}")
        tab.close()


def ratios(browser, url: str, clicks: int) -> list[float]:
    """The ratio that is shown, click after click, with nothing changed."""
    tab = browser.new_page()
    tab.goto(url)
    found = []
    for _ in range(clicks + 1):
        tab.wait_for_selector(".dd2-done", timeout=120_000)
        found.append(float(RATIO.search(tab.inner_text(".dd2-times"))[1]))
        print(f"  {found[-1]:.2f}×", end="", flush=True)
        tab.click("#compare")
        tab.wait_for_function("!document.querySelector('.dd2-done')")
    tab.close()
    return found[1:]  # that of opening the page was no click


def slide(browser, url: str, turns: int = 7) -> list[float]:
    """Milliseconds from the slider's move to the new images."""
    tab = browser.new_page()
    tab.goto(f"{url}{'&' if '?' in url else '?'}tab=explore")
    tab.wait_for_selector("#pad img", timeout=120_000)  # the page is done with painting
    took = tab.evaluate(SLIDE, turns)
    tab.close()
    return took


def main(arguments: list[str]) -> None:
    """Measure and print."""
    given = dict(a.split("=", 1) for a in arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the page that was started ends too
    parts = given.get("parts", "load,ratio,slider").split(",")
    server, url = (None, given["url"]) if "url" in given else start()
    if "model" in given:
        url = f"{url}?model={given['model']}"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
            if "load" in parts:
                load(browser, url)
            if "ratio" in parts:
                found = ratios(browser, url, int(given.get("clicks", 20)))
                print()
                middle = median(found)
                worst = max(abs(r / middle - 1) for r in found)
                print(f"ratio over {len(found)} clicks: {min(found):.2f}× to {max(found):.2f}×, "
                      f"median {middle:.2f}×, at most {worst:.0%} from it")
            if "slider" in parts:
                took = slide(browser, url)
                print(f"slider: median {median(took):.0f} ms of {len(took)}")
            print(f"load average {os.getloadavg()[0]:.1f}")
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=30)


if __name__ == "__main__":
    main(sys.argv[1:])
