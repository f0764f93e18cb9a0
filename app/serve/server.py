"""Start the page's server, and stop it in good order."""

import inspect
import sys
import time
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.own.share import FAVICON, Share
from app.serve import connections, queue
from app.serve.environment import bypass_loopback, named_port, no_proxy
from app.serve.guard import Door, Guard
from app.serve.outgoing import Compress, First
from app.static_page import serve as static_page
from app.theme import CSS, HEAD, THEME

QUEUE_SIZE = 64  # waiting requests; the next one hears "queue is full" instead of waiting forever
MOST_STATES = 64  # sessions whose state Gradio keeps, 0.2 MB each; no part of the page uses it
UPLOAD = "1kb"  # nothing is uploaded here; the filter in front refuses it anyway
FAREWELL = 1.0  # seconds for the streams to take their last sentence
# Off whatever the environment says, where this Gradio knows it: each serves or sends something to
# strangers, two of them outside the filter.
OFF = {"run_history": False, "mcp_server": False, "num_workers": 0, "enable_monitoring": False}


def launch(page: gr.Blocks, **options: Any) -> tuple:
    """Serve `page`; `options` go to `gr.Blocks.launch`. Returns what that returns.

    Args:
        page: from `build_page`.
        **options: `prevent_thread_lock=True` returns at once, as in a notebook or a test.
    """
    bypass_loopback()
    page.door = Door()
    app_kwargs = dict(options.pop("app_kwargs", None) or {})
    own = [*static_page.middleware(), Middleware(Guard, page=page, door=page.door),
           Middleware(Compress), Middleware(First, page=page),
           Middleware(Share)]
    app_kwargs["middleware"] = [*own, *app_kwargs.get("middleware", ())]
    returns = options.pop("prevent_thread_lock", False)
    queue.install(page, QUEUE_SIZE)
    if (port := options.get("server_port") or named_port()) is not None:
        options["server_port"] = port
    known = inspect.signature(page.launch).parameters
    with no_proxy():
        served = page.launch(
            theme=THEME,
            css=CSS,
            head=HEAD,
            footer_links=["api", "settings"],
            favicon_path=options.pop("favicon_path", FAVICON),
            share=options.pop("share", None),  # None: what GRADIO_SHARE says; a notebook's link
            ssr_mode=False,  # the page is small; server-side rendering would need node
            state_session_capacity=MOST_STATES,
            max_file_size=UPLOAD,
            app_kwargs=app_kwargs,
            prevent_thread_lock=True,
            **{name: value for name, value in OFF.items() if name in known},
            **options,
        )
    connections.limit(page.server)
    if not returns and not getattr(sys, "ps1", sys.flags.interactive):
        page.block_thread()
    return served


def stop(page: gr.Blocks) -> None:
    """End a running page within five seconds: streams hear why, then the server closes."""
    if getattr(page, "door", None) is None or not getattr(page, "is_running", False):
        return
    page.door.close()
    end = time.monotonic() + FAREWELL
    while page.door.open.total() and time.monotonic() < end:
        time.sleep(0.02)
    page.close(verbose=False)
