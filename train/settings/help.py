"""What `python -m train.COMMAND --help` prints: every setting with its default and its meaning.

Meanings are the comments at the end of the settings' own lines (`train/settings/schema.py`), so
there is one place to write them.
"""

import dataclasses
import inspect
import re
import textwrap
from types import ModuleType
from typing import Any

from train.settings.schema import Config

WORDS = ("--help", "-h", "help")  # that ask for it
COLUMN, WIDTH = 36, 100  # where meanings begin; longest line
SECTIONS = {  # of the settings, by command; others have the section of their name, if there is one
    "all": tuple(f.name for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.type)),
    "teacher": ("teacher", "tokens"), "adapt": ("adapt_fit", "adapt", "tokens"),
    "gts": ("gts", "head", "tokens"), "samples": ("samples", "tokens"),
}
FIELD = re.compile(r"    (\w+): [^#]*?(?:# noqa: \S+ (?:\(\w+\) )?|# )(.*)")
MORE = re.compile(r"    # (.*)")


def meanings(kind: type) -> dict[str, str]:
    """Name of each field of a dataclass → the comment of its line, and of those that go on below;
    what it inherits included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        last = None
        for line in inspect.getsource(base).splitlines():
            if (field := FIELD.fullmatch(line)) and field[1] in base.__annotations__:
                last = field[1]
                found[last] = field[2]
            elif last and (more := MORE.fullmatch(line)):
                found[last] += f" {more[1]}"
            else:
                last = None
    return found


def shown(value: Any) -> str:
    """A default as it would be written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value)


def settings_lines(values: Any, prefix: str = "") -> list[str]:
    """A line, or more, for each setting of a dataclass instance that is no section itself.

    Args:
        values: the instance, whose values are shown as the defaults.
        prefix (str): before each name, as `csd.`.
    """
    told, lines = meanings(type(values)), []
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if dataclasses.is_dataclass(value):
            continue
        head = f"  {prefix}{field.name}={shown(value)}"
        text = textwrap.wrap(told.get(field.name, ""), WIDTH - COLUMN)
        if len(head) < COLUMN and text:
            lines.append(head.ljust(COLUMN) + text.pop(0))
        else:
            lines.append(head)
        lines += [" " * COLUMN + line for line in text]
    return lines


def help_text(module: ModuleType, values: Any, flat: str | None = None) -> str:
    """The help of a command.

    Args:
        module (ModuleType): the command; its docstring comes first.
        values: its settings, whose values are shown as the defaults.
        flat (str | None): the section whose keys may also be given bare.
    """
    spec = module.__spec__
    name = spec.name if spec is not None else module.__name__
    usage = f"usage: python -m {name} key=value …"
    parts = [usage, (module.__doc__ or "").strip()]
    if not isinstance(values, Config):
        return "\n\n".join([*parts, "\n".join(["Settings, their defaults, and what they are:",
                                              *settings_lines(values)])])
    command = name.rpartition(".")[2]
    own = dataclasses.is_dataclass(getattr(values, command, None))  # `export` is a plain setting
    sections = SECTIONS.get(command, (command,) if own else ())
    parts.append("Settings, their defaults, and what they are. preset=NAME (fashion-llamagen if "
                 "not given) replaces\ndefaults by those of train/presets/NAME.yaml; with it, "
                 "--help shows these.")
    for section in sections:
        part = getattr(values, section)
        kind = (inspect.getdoc(type(part)) or section).splitlines()[0].rstrip(".")
        bare = f" (`{section}.` may be left out)" if section == flat else ""
        parts.append("\n".join([f"{section}: {kind}{bare}",
                                *settings_lines(part, f"{section}.")]))
    if "sampling" not in sections:
        parts.append("\n".join(["sampling: of the teacher",
                                *settings_lines(values.sampling, "sampling.")]))
    parts.append("\n".join(["Every command of a preset has these; sections of other stages may be "
                            "given too:", *settings_lines(values)]))
    return "\n\n".join(parts)
