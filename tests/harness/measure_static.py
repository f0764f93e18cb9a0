"""What the README says of the page in the visitor's browser, measured in headless Chromium:

    make web && python -m tests.harness.measure_static      # all models of build/web, from loopback
    python -m tests.harness.measure_static model=fashion-var seconds=5 images=500 folder=FOLDER

Prints JSON: bytes gzipped, time to the first picture, the race's clocks, frames a second of the
latent slider (moved at every frame; new pictures that were drawn count), how long a picture takes
in the worker and until it is answered, and for how much of that the worker was on a core (what is
left is other work on the machine), memory over many images, and the load average, without which no
number means much. `missed` lists the bars that were not reached (see `BARS`): it is to be empty for
the first model, on cores that nothing else uses.
"""

import functools
import gzip
import http.server
import json
import os
import sys
import threading
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

from tests.support.browser_helpers import ARGUMENTS, CHROMIUM

# What a number must not exceed, or, negative, must reach.
BARS = {"first_picture_s": 5, "image_ms": 40, "pictures_a_second": -25, "gzipped_mb": 12,
        "memory_growth": 1.1}
PREPARE = """(() => {
  const look = new MutationObserver(() => {
    if (window.firstPicture || !document.documentElement.dataset.tokens) return;
    requestAnimationFrame(() => { window.firstPicture ??= performance.now(); });
  });
  look.observe(document, {attributes: true, subtree: true, attributeFilter: ["data-tokens"]});
})()"""
SLIDE = """async seconds => {
  const place = document.querySelector("#place"), caption = document.querySelector("#way-image");
  let frames = 0, pictures = 0;
  const seen = new MutationObserver(all => { pictures += 1; });
  seen.observe(caption, {attributes: true, attributeFilter: ["aria-label"]});
  const since = performance.now();
  for (let now = since; now - since < 1000 * seconds; now = performance.now()) {
    place.value = 0.5 + 0.5 * Math.sin((now - since) / 700);
    place.dispatchEvent(new Event("input", {bubbles: true}));
    frames += 1;
    await new Promise(requestAnimationFrame);
  }
  const took = (performance.now() - since) / 1000;
  seen.disconnect();
  return {pictures_a_second: pictures / took, screen_frames_a_second: frames / took};
}"""
MANY = """async ({name, images}) => {
  const took = [], inside = [], heap = [];
  for (let i = 0; i < images; i++) {
    const since = performance.now();
    const { ms } = await dd2.call("one", {name, label: 0, seed: i});
    took.push(performance.now() - since);
    inside.push(ms);
    if (i % 100 === 99) heap.push(performance.memory?.usedJSHeapSize ?? 0);
  }
  return {took, inside, heap};
}"""


class Host(http.server.SimpleHTTPRequestHandler):
    """A plain static host that says nothing."""

    def guess_type(self, path: Any) -> str:
        """Python 3.11 does not know the first."""
        known = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        return known.get(Path(str(path)).suffix) or super().guess_type(path)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def processes(browser: Any) -> list[int]:
    """Ids of the browser's own processes."""
    session = browser.new_browser_cdp_session()
    found = [p["id"] for p in session.send("SystemInfo.getProcessInfo")["processInfo"]]
    session.detach()
    return found


def worker_seconds(browser: Any) -> float:
    """Seconds that workers' threads have been on a core: what they took, however busy it is."""
    total = 0
    for pid in processes(browser):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "comm").read_text().startswith("DedicatedWorker"):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident(browser: Any) -> float:
    """MB of private memory of all of the browser's processes."""
    total = 0
    for pid in processes(browser):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Dirty", "Private_Clean")):
                total += int(line.split()[1])
    return total / 1024


def measure(browser: Any, url: str, model: str, seconds: float, images: int) -> dict[str, Any]:
    """See the module."""
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.set_default_timeout(120_000)
    fetched: list[str] = []
    tab.on("response", lambda answer: fetched.append(answer.url))
    tab.add_init_script(PREPARE)
    tab.goto(f"{url}?model={model}")
    tab.wait_for_function("window.firstPicture")
    found: dict[str, Any] = {"first_picture_s": tab.evaluate("window.firstPicture") / 1000}
    tab.wait_for_selector("html[data-state=ready]")
    tab.evaluate(SLIDE, 1)  # warms up
    found |= tab.evaluate(SLIDE, seconds)
    before, since = resident(browser), worker_seconds(browser)
    many = tab.evaluate(MANY, {"name": model, "images": images})
    found["image_cpu_ms"] = 1000 * (worker_seconds(browser) - since) / images
    found["image_ms"] = median(many["took"])
    found["image_ms_in_worker"] = median(many["inside"])
    found["memory_mb"] = [round(before, 1), round(resident(browser), 1)]
    found["memory_growth"] = found["memory_mb"][1] / found["memory_mb"][0]
    tab.click("#race")
    tab.wait_for_selector("html[data-state=raced]")
    for clock in ("one", "teacher"):
        found[f"race_{clock}"] = tab.inner_text(f"#{clock}-clock")
        found[f"race_{clock}_spread"] = tab.inner_text(f"#{clock}-spread")
    found["engine"] = tab.inner_text("#machine")
    found["files"] = sorted({address.split("?")[0].removeprefix(url) for address in fetched})
    tab.close()
    return found


def gzipped(folder: Path, names: list[str]) -> float:
    """MB of files, each gzipped as a host would send it."""
    paths = [folder / (name or "index.html") for name in names]
    return sum(len(gzip.compress(path.read_bytes())) for path in paths if path.is_file()) / 1e6


def models_of(folder: Path) -> list[str]:
    """The models of an assembled page, in their order."""
    files = json.loads((folder / "files.json").read_text())
    return [name.split("/")[1] for name in files if name.endswith("/web.json")]


def main(arguments: list[str]) -> None:
    """Measure and print."""
    given = dict(a.split("=", 1) for a in arguments)
    folder = Path(given.get("folder", "build/web"))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Host, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        models = given["model"].split(",") if "model" in given else models_of(folder)
        for model in models:
            load = os.getloadavg()[0]
            found = measure(browser, url, model, float(given.get("seconds", 5)),
                            int(given.get("images", 500)))
            found["gzipped_mb"] = gzipped(folder, found.pop("files"))
            found["missed"] = [key for key, bar in BARS.items()
                               if (found[key] > bar if bar > 0 else found[key] < -bar)]
            found = {key: round(value, 2) if isinstance(value, float) else value
                     for key, value in found.items()}
            print(json.dumps({"model": model, **found, "cores": os.cpu_count(),
                              "load_before": round(load, 1)}, indent=1))
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
