"""A table of rows that are measured by FD: by both extractors, beside teacher and floor."""

from dd2core.results.markdown import ABSENT, cell, markdown_table
from dd2core.results.provenance import told
from dd2core.results.schema import Measurement
from train.results.measured import EXTRACTORS, Measured, by_both, fd_of, spread
from train.results.rows import PRESETS, Row

HEADS = ("", "paper: {0}", "FD", "÷ teacher", "above the floor, ÷ teacher", "precision", "recall",
         "N", "runs", "minutes", "command")


class Commands:
    """The commands of a section, numbered as they are met."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def number(self, *lines: str) -> str:
        """The number of some lines, for the last column."""
        return f"[{self.known.setdefault(chr(10).join(lines), len(self.known) + 1)}]"

    def block(self) -> str:
        """All of them, as a code block."""
        text = "\n".join(f"# [{i}]\n{lines}" for lines, i in self.known.items())
        return f"```\n{text}\n```"


def quality_table(measured: Measured, table: tuple[Row, ...]) -> str:
    """A table of rows that are measured by FD, with their commands."""
    commands, lines = Commands(), []
    for row in table:
        found = measured.rows.get(row.key, [])
        lines.append([row.title, row.paper.get(measured.preset, ""),
                      *(_numbers(measured, found) if found else ["not run", *[ABSENT] * 7]),
                      commands.number(*how(measured, row, found))])
    heads = [head.format(PRESETS[measured.preset]) for head in HEADS]
    return markdown_table(heads, lines) + "\n\n" + commands.block()


def how(measured: Measured, row: Row, found: list[Measurement]) -> list[str]:
    """The commands that were run; what would have to be run where nothing was."""
    if found:
        return list(dict.fromkeys(f"{m.command}  # {_origin(m)}" for m in found))
    return [line.replace("{p}", measured.preset) for line in row.commands]


def _origin(m: Measurement) -> str:
    """Where a measurement comes from, and on what its generator was trained if that was noted."""
    trained = f"; trained on {m.trained_on}" if m.trained_on else ""
    return f"{told(m.provenance)}{trained}"


def _numbers(measured: Measured, found: list[Measurement]) -> list[str]:
    def ratios(extractor: str, floor: float | None) -> str:
        teacher = measured.fd("teacher", extractor)
        fds = [fd_of(m, extractor) for m in found]
        if teacher is None or floor is None or None in fds or teacher <= floor:
            return ABSENT
        return spread([(fd - floor) / (teacher - floor) for fd in fds if fd is not None], ".2f")

    def of_judge(name: str) -> str:
        return spread([getattr(m.judge, name) if m.judge else None for m in found], ".3f")

    floors = {name: measured.fd("tokenizer", name) for name in EXTRACTORS}
    forms = dict(zip(EXTRACTORS, (".2f", ".3f"), strict=True))
    own = {name: spread([getattr(m, name) for m in found], ".3f")
           for name in ("precision", "recall")}
    return [by_both({name: spread([fd_of(m, name) for m in found], forms[name])
                     for name in EXTRACTORS}),
            by_both({name: ratios(name, 0.0) for name in EXTRACTORS}),
            by_both({name: ratios(name, floors[name]) for name in EXTRACTORS}),
            *(by_both(dict(zip(EXTRACTORS, (own[name], of_judge(name)), strict=True)))
              for name in own),
            _same(found, "n", ","), str(len(found)),
            spread([m.training_minutes for m in found], ".0f")]


def _same(found: list[Measurement], name: str, form: str) -> str:
    return ", ".join(dict.fromkeys(cell(getattr(m, name), form) for m in found))
