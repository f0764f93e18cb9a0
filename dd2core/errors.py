"""The one exception a user is meant to read: a single sentence that says what to do."""

from collections.abc import Iterable


class DD2Error(ValueError):
    """Bad input, a missing or broken file, or a request that cannot be met.

    Command lines and the page print its message without a traceback.
    """


def some(names: Iterable[object], most: int = 5) -> str:
    """The first names for a message, and how many more there are."""
    words = [str(n) for n in names]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
