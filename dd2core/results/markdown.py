"""Markdown tables."""

from collections.abc import Iterable, Sequence

ABSENT = "–"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells as text; empty if there are no rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), *lines]
                     ) if lines else ""


def cell(value: float | str | None, form: str = "") -> str:
    """A value in the format `form`; a dash for one that was not measured."""
    return ABSENT if value is None else format(value, form)
