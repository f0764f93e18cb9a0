"""What the environment may say to Gradio: checked before Gradio is imported, which reads it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = {  # that Gradio takes from the environment as it is imported: least and most
    "GRADIO_SERVER_PORT": (1, 65535),
    "GRADIO_NUM_PORTS": (1, 65535),
    "GRADIO_NODE_NUM_PORTS": (1, 65535),
    "GRADIO_ANALYTICS_MAX_EVENTS": (1, 10**9),
    "GRADIO_DEBUG": (0, 1),
}


def check_numbers() -> None:
    """Raise SystemExit, with one sentence, where Gradio would not even be imported."""
    for name, (least, most) in NUMBERS.items():
        text = os.environ.get(name)
        if text is None:
            continue
        try:
            good = least <= int(text) <= most
        except ValueError:
            good = False
        if not good:
            said = text if len(text) <= 40 else f"{text[:40]}…"
            raise SystemExit(f"app: {name} is {said!r}: set a number from {least} to {most}.")


def named_port(name: str = "GRADIO_SERVER_PORT") -> int | None:
    """The port that was named, if one was; Gradio would move on to the next free one.

    Raises:
        SystemExit: somebody listens there already.
    """
    text = os.environ.get(name)
    if text is None:
        return None
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as probe:
        if os.name != "nt":  # there it would allow a second one to listen
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(text)))
        except OSError as error:
            raise SystemExit(
                f"app: {name} is {text}, and nothing can listen there ({error.strerror}): name "
                "another port."
            ) from None
    return int(text)


def bypass_loopback() -> None:
    """Let no proxy stand between this machine and itself: `NO_PROXY` gets its own names."""
    for name in ("no_proxy", "NO_PROXY"):
        given = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*given, "localhost", "127.0.0.1"]))


@contextmanager
def no_proxy() -> Iterator[None]:
    """No proxy meanwhile. Gradio asks its own server whether it answers, by an address that a
    proxy elsewhere does not reach; and one that httpx cannot use (SOCKS) ends the import."""
    kept = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    os.environ.update(dict.fromkeys(kept, "*"))
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
