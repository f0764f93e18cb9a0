"""Load the model, serve the page.

python app.py                                   # the shipped models, http://127.0.0.1:7860
DD2_MODEL=path/to/folder python app.py          # one preset, folder or hub repo id, and only that
GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=8000 python app.py

Ctrl-C and SIGTERM end it within five seconds. Gradio and torch are imported late: Gradio reads
numbers from the environment as it is imported, and an early Ctrl-C should be no traceback either.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from app.serve.environment import check_numbers, no_proxy
from app.serve.memory import share_arenas


def launch(page: Any, **options: Any) -> tuple:
    """Serve `page`; `options` go to `gr.Blocks.launch`. Returns what that returns."""
    from app.serve.server import launch as serve

    return serve(page, **options)


def open_page(model: str | None = None, **options: Any) -> tuple:
    """Serve the page from a notebook or a program, and return at once.

    Args:
        model: preset, folder or hub id; None is DD2_MODEL, or the shipped ones.
        **options: go to `gr.Blocks.launch`, as `share=True` or `server_port=8000`.

    Returns:
        The server's app, its local address, and its public one or None.

    Raises:
        DD2Error: the model cannot be loaded, or the environment names what cannot be.
    """
    from dd2core import DD2Error

    try:
        check_numbers()
        with no_proxy():
            from app.serve.server import launch as serve
        page, models = _load(model)
        served = serve(page, **{"prevent_thread_lock": True, **options})
    except SystemExit as refusal:
        raise DD2Error(str(refusal).removeprefix("app: ")) from None
    threading.Thread(target=_get_ready, args=(models,), daemon=True).start()
    return served


HELP = """

Settings are variables of the environment:
  DD2_MODEL                 preset, folder or hub id; unset: the shipped models
  DD2_DEVICE=auto           auto, cpu, cuda or mps
  DD2_ENGINE=torch          torch, onnx, or auto: the graphs where they are at hand and faster
  DD2_GRAPHS                folder of ONNX graphs, or of such folders by model name; unset: the
                            folder `onnx` inside the model's own
  GRADIO_SERVER_NAME=127.0.0.1, GRADIO_SERVER_PORT=7860, GRADIO_SHARE=False: as in Gradio
  GRADIO_MCP_SERVER=False   True: the endpoints as tools for agents (pip install "gradio[mcp]")"""


def main() -> None:
    """Serve the shipped models, or the one named by DD2_MODEL, until told to end; or print help."""
    if {"--help", "-h", "help"} & set(sys.argv[1:]):
        print((__doc__ or "").strip() + HELP)
        return
    if len(sys.argv) > 1:  # taken without a word, it would be believed to count
        raise SystemExit(f"app: {sys.argv[1]!r} is no argument: settings are variables of the "
                         "environment, see python app.py --help.")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    page = None
    try:
        check_numbers()
        share_arenas()
        with no_proxy():
            from app.serve.server import stop
        page, models = _load()
        try:
            launch(page, prevent_thread_lock=True)
        except OSError as error:  # the port is taken
            raise SystemExit(f"app: {error}") from None
        threading.Thread(target=_get_ready, args=(models,), daemon=True).start()
        while page.server.thread.is_alive():
            time.sleep(0.2)
        raise SystemExit("app: the server ended by itself: start it again.")
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            raise
        if page is not None:
            stop(page)
        _end(leaving.code)


def _get_ready(models: Any) -> None:
    """Warm the first model up and load the others, so that nobody waits for it later."""
    from gradio import Error

    from app.tabs.compare import FIRST_COUNT
    from dd2core import DD2Error

    with contextlib.suppress(DD2Error, Error):  # whoever asks for it hears why
        models.default.warm_up(FIRST_COUNT)
        models.load_all()


def _load(name: str | None = None) -> tuple[Any, Any]:
    from app import zero
    from app.page import build_page
    from app.serve.models import Models
    from app.shipped import first_shipped
    from dd2core import DD2Error, load_pipeline
    from dd2core.store.folder import ASSETS
    from dd2core.store.hub import is_hub_id

    device = os.environ.get("DD2_DEVICE") or "auto"
    try:
        if name := name or os.environ.get("DD2_MODEL"):
            if is_hub_id(name) and not (Path(name).exists() or (ASSETS / name).exists()):
                print(f"app: there is no folder {name} here: the hub is asked for it.",
                      file=sys.stderr, flush=True)
            models = Models.of(load_pipeline(name, device=device))
        else:
            models = Models.on_disk(first_shipped(), device)
        if zero.LENT:
            models.load_all()  # where the GPU is lent per call, weights must be there before
        return build_page(models), models
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
