"""Load the model, serve the page.

python app.py                                   # the shipped models, http://127.0.0.1:7860
DD2_MODEL=path/to/folder python app.py          # one preset, folder or hub repo id, and only that
GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=8000 python app.py

Ctrl-C and SIGTERM end it within five seconds. Gradio and torch are imported late: Gradio reads
numbers from the environment as it is imported, and an early Ctrl-C should be no traceback either.
"""

import os
import signal
import sys
import time
from typing import Any, NoReturn

from app.serve.environment import check_numbers, no_proxy
from app.serve.memory import share_arenas

DEFAULT_MODEL = "fashion-llamagen"


def launch(page: Any, **options: Any) -> tuple:
    """Serve `page`; `options` go to `gr.Blocks.launch`. Returns what that returns."""
    from app.serve.server import launch as serve

    return serve(page, **options)


def main() -> None:
    """Serve the shipped models, or the one named by DD2_MODEL, until told to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    page = None
    try:
        check_numbers()
        share_arenas()
        with no_proxy():
            from app.serve.server import stop
        page = _load()
        try:
            launch(page, prevent_thread_lock=True)
        except OSError as error:  # the port is taken
            raise SystemExit(f"app: {error}") from None
        while page.server.thread.is_alive():
            time.sleep(0.2)
        raise SystemExit("app: the server ended by itself: start it again.")
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            raise
        if page is not None:
            stop(page)
        _end(leaving.code)


def _load() -> Any:
    from app import zero
    from app.page import build_page
    from app.serve.models import Models
    from dd2core import DD2Error, load_pipeline

    device = os.environ.get("DD2_DEVICE") or "auto"
    try:
        if name := os.environ.get("DD2_MODEL"):
            models = Models.of(load_pipeline(name, device=device))
        else:
            models = Models.on_disk(DEFAULT_MODEL, device)
        if zero.LENT:
            models.load_all()  # where the GPU is lent per call, weights must be there before
        return build_page(models)
    except DD2Error as error:
        raise SystemExit(f"app: {error}") from None


def _leave(number: int, _: Any) -> NoReturn:
    """Ctrl-C and SIGTERM: out of whatever is going on; a second one does not wait."""
    if getattr(_leave, "asked", False):
        _end(128 + number)
    _leave.asked = True
    raise SystemExit(130 if number == signal.SIGINT else 0)


def _end(code: int) -> NoReturn:
    """Leave now. A sampler may still be inside torch: Python's own end would tear its thread down
    there, which aborts the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
