"""What the tests of the page share: a model to show, and a running server."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.main import launch
from app.page import build_page
from app.serve.models import Models
from dd2core import Pipeline, load_pipeline


def demo_pipe() -> Pipeline:
    """A shipped preset, whichever the page opens with."""
    return load_pipeline("fashion-llamagen", device="cpu")


@contextmanager
def serve(*pipes: Any) -> Iterator[str]:
    """The page of some pipelines, served in this process; gives its address."""
    page = build_page(Models.of(*pipes))
    _, url, _ = launch(page, server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        yield url.rstrip("/")
    finally:
        page.close(verbose=False)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(true, seconds: float = 8.0) -> None:
    """Wait for `true()`; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
