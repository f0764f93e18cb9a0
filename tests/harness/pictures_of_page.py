"""The pictures of the page that README and links show, taken anew from the running page:

    python -m tests.harness.pictures_of_page                         # of the model that opens it
    python -m tests.harness.pictures_of_page model=fashion-llamagen out=FOLDER

Writes into `out` (assets/screenshots) compare.png (1280×800) and compare-phone.png (360×740), the
first screens once the comparison is done; explore.png (1280×800) and explore-phone.png; race.gif,
the moving picture of the race; and share.png, which links to the page show, into `share`
(app/own/share.png). The clocks in them are this machine's: take them on cores that nothing else
uses, and look at every one.
"""

import base64
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from app.shipped import first_shipped
from dd2core import load_pipeline
from dd2core.store.files import write_atomic
from tests.harness.load_clients import ROOT, start
from tests.support.browser_helpers import ARGUMENTS, CHROMIUM
from train.publish.gif import race

SIZES = {"": (1280, 800), "-phone": (360, 740)}
SHARE = "dd2.card.share().then(c => c.toDataURL('image/png').split(',')[1])"


def take(url: str, model: str, out: Path, share: Path) -> None:
    """The pictures of a page at `url`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for ending, (width, height) in SIZES.items():
            tab = browser.new_page(viewport={"width": width, "height": height})
            tab.set_default_timeout(120_000)
            tab.goto(f"{url}?model={model}")
            tab.wait_for_selector(".dd2-done")
            tab.wait_for_timeout(1500)  # the ring around what came last
            tab.screenshot(path=out / f"compare{ending}.png")
            if not ending:
                tab.goto(f"{url}?model={model}&count=16")  # for the card
                tab.wait_for_selector(".dd2-done")
                write_atomic(share, base64.b64decode(tab.evaluate(SHARE)))
            tab.goto(f"{url}?model={model}&tab=explore")
            tab.wait_for_selector("#pad img")
            tab.wait_for_timeout(500)
            tab.screenshot(path=out / f"explore{ending}.png")
            tab.close()
        browser.close()


def main(arguments: list[str]) -> None:
    """Start the page, take everything, print what was written."""
    given = dict(a.split("=", 1) for a in arguments)
    model = given.get("model") or first_shipped()
    out = Path(given.get("out", ROOT / "assets" / "screenshots"))
    share = Path(given.get("share", ROOT / "app" / "own" / "share.png"))
    out.mkdir(parents=True, exist_ok=True)
    server, url = start()
    try:
        take(url, model, out, share)
    finally:
        server.terminate()
        server.wait(timeout=30)
    data, one, teacher = race(load_pipeline(model, device="cpu"))
    write_atomic(out / "race.gif", data)
    print(f"{model}: {', '.join(sorted(p.name for p in out.iterdir()))} in {out}, {share}")
    print(f"race.gif: {len(data) / 2**10:.0f} KiB, one step {1e3 * one.seconds:.1f} ms, teacher "
          f"{1e3 * teacher.seconds:.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
