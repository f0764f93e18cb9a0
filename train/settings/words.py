"""`key=value` words → values of the types that the settings' dataclasses declare.

A word for a string is taken as it is: `data=2024_01`, `name=007` and `data=/x/set #2` mean what
they say. Where None is possible it is written `null` (or nothing at all); a string that can never
be None may be the word `null`. Numbers and booleans are read as Python reads them (`010` is ten),
lists and sections as YAML.
"""

import dataclasses
import functools
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from dd2core.errors import DD2Error

NULL = ("null", "")
YAML_NULL = (*NULL, "~", "Null", "NULL")
_hints = functools.cache(get_type_hints)


def kind_of(settings: type, key: str) -> tuple[Any, bool]:
    """The declared type of a dotted key, and whether None is possible; (None, False) if unknown."""
    kind: Any = settings
    optional = False
    for name in key.split("."):
        if not dataclasses.is_dataclass(kind):
            return None, False
        kind, optional = _without_none(_hints(kind).get(name))
    return kind, optional


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    rest = [k for k in get_args(kind) if k is not type(None)]
    return (rest[0] if len(rest) == 1 else None), len(rest) < len(get_args(kind))


def parse(settings: type, words: dict[str, str]) -> tuple[DictConfig, dict[str, str]]:
    """What the words say, to be merged into the settings, and the strings for `put` afterwards.

    `${x}` and `???` do not pass through OmegaConf, to which they would mean something.

    Args:
        settings (type): the dataclass of all settings.
        words (dict[str, str]): dotted key → text.
    """
    given, strings, rest = OmegaConf.create(), {}, []
    for key, text in words.items():
        kind, optional = kind_of(settings, key)
        if optional and text in (NULL if kind is str else YAML_NULL):
            OmegaConf.update(given, key, None)
        elif kind is str:
            special = "${" in text or text == "???"
            if special:
                strings[key] = text
            OmegaConf.update(given, key, "" if special else text)  # "" keeps the place
        elif kind in (int, float, bool):
            OmegaConf.update(given, key, text)
        else:
            rest.append(f"{key}={text}")
    return OmegaConf.merge(given, OmegaConf.from_dotlist(rest)), strings


def put(settings: Any, strings: dict[str, str]) -> Any:
    """Set strings, by dotted key, in a settings object; returns it."""
    for key, text in strings.items():
        *sections, name = key.split(".")
        at = settings
        for section in sections:
            at = getattr(at, section)
        setattr(at, name, text)
    return settings


def refuse_unquoted(settings: type, found: dict, where: str, above: str = "") -> None:
    """Raise DD2Error if YAML took a string setting of a preset for a number, date or boolean."""
    for name, value in found.items():
        key = f"{above}{name}"
        if isinstance(value, dict):
            refuse_unquoted(settings, value, where, f"{key}.")
        elif value is not None and not isinstance(value, str) and (
                kind_of(settings, key)[0] is str):
            raise DD2Error(f"{where}: {key} is text, and YAML reads it as {value!r}: write it in "
                           "quotes.")
