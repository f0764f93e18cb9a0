"""What the reading of data has to say: each sentence once per process, on the first rank alone."""

import os
import threading
import unicodedata

from train.engine.distributed import is_main

_said: set[str] = set()
_lock = threading.Lock()  # pictures are read by several threads


def say_once(sentence: str, key: str | None = None) -> None:
    """Print `data: sentence`, unless it, or another with the same key, has been printed before."""
    with _lock:
        if (key or sentence) in _said:
            return
        _said.add(key or sentence)
    if is_main():
        print(f"data: {sentence}", flush=True)


def shown(path: str | os.PathLike) -> str:
    """A path as text of one line: bytes that are no UTF-8 and control characters are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c)[0] in "CZ"
                   and c != " " else c for c in text)
