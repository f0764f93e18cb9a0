"""What the environment may say to Gradio: checked before Gradio is imported, which reads it."""

import os
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
