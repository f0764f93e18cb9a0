"""The address of a view: `?model=…&tab=…&class=…&seed=…` reproduces it.

Handlers make the query; `page.js` puts it in the address bar as a visitor goes along. Here it is
read again; whatever does not fit is left at its default and complained about in one sentence.
"""

import math
from typing import Any
from urllib.parse import parse_qs, urlencode

from app.requests import quote

FRONT = "compare"  # the tab of an address that names none


def address(tab: str, model: str, **values: Any) -> str:
    """The query of a view; None is left out, `class_` stands for class."""
    given = {"model": model, "tab": None if tab == FRONT else tab, **values}
    return urlencode({k.rstrip("_"): v for k, v in given.items() if v is not None})


class View:
    """The parameters of an address, checked as they are asked for.

    Attributes:
        complaints (list[str]): one sentence for each parameter that did not fit.
    """

    def __init__(self, search: Any = "") -> None:
        text = search if isinstance(search, str) else ""
        self.given = {name: values[-1] for name, values in parse_qs(text.lstrip("?")).items()}
        self.complaints: list[str] = []

    def without(self, *names: str) -> "View":
        """The same, with some parameters left out."""
        view = View()
        view.given = {name: value for name, value in self.given.items() if name not in names}
        return view

    def choice(self, name: str, options: list[str], default: str) -> str:
        """One of `options`."""
        value = self.given.get(name, default)
        return value if value in options else self._complain(name, "is not known here", default)

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """A number in [low, high]."""
        if name not in self.given:
            return default
        try:
            value = float(self.given[name])
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # a NaN fails every comparison
            return self._complain(name, f"must be a number from {low:g} to {high:g}", default)
        return value

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number in [low, high]."""
        if name not in self.given:
            return default
        text = self.given[name]
        digits = text.isascii() and text.isdigit() and len(text) < 20
        if not digits or not low <= int(text) <= high:
            return self._complain(name, f"must be a whole number from {low} to {high}", default)
        return int(text)

    def _complain(self, name: str, what: str, default: Any) -> Any:
        shown = quote(self.given[name])
        self.complaints.append(f"In the address, {name} {what}, and {shown} does not fit.")
        return default
