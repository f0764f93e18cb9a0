"""The tab that offers the page which runs in the visitor's own browser, where it was built."""

from typing import Any

import gradio as gr

from app.address import View
from app.static_page import serve
from app.static_page.assemble import download_bytes, webgpu_bytes
from app.tabs.tab import Shared, Tab

OFFER = """
<div class="dd2-intro"><h2>In your browser</h2>
<p>One step and its teacher on your own device: no server, no queue, and it works offline after the
first load. Your browser fetches <b>{size:.0f} MB</b> for it, once, when you press the button, and
{more:.0f} MB more where it has WebGPU.</p>
<p><button class="dd2-replay" type="button" id="own-browser" onclick="{load}">Load it here</button>
<a href="{below}/" target="_blank" rel="noopener">or on a page of its own</a></p></div>
"""
# Nothing is fetched before the click.
LOAD = ("const f = document.createElement('iframe'); f.src = '{below}/'; "
        "f.title = 'One step and its teacher in this browser'; "
        "f.style.cssText = 'width:100%;height:1500px;border:0'; "
        "f.onload = () => {{ const b = f.contentDocument.body; new ResizeObserver(() => "
        "{{ f.style.height = b.scrollHeight + 'px' }}).observe(b) }}; "
        "this.closest('.dd2-intro').replaceWith(f)")


class BrowserTab(Tab):
    """An offer with its size, then the page itself."""

    id, title = "browser", "In your browser"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        found = serve.folder()
        assert found is not None, "the tab is offered where the folder is there"
        below = serve.BELOW.removeprefix("/")
        gr.HTML(
            OFFER.format(size=download_bytes(found) / 1e6, more=webgpu_bytes(found) / 1e6,
                         below=below, load=LOAD.format(below=below)),
            elem_id="browser-offer", elem_classes="dd2-flush",
        )

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`: nothing depends on the model, the page has its own."""
        return []

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`: nothing to fill."""


def offered() -> tuple[type[Tab], ...]:
    """The tab, where there is a page to offer."""
    return () if serve.folder() is None else (BrowserTab,)
