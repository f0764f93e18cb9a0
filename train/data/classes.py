"""Names of classes: their order, and which folder is which class of a base.

Two names are the same if they agree after Unicode's NFC (macOS stores NFD) and after every
character that a folder's name cannot hold everywhere (`/ \\ : * ? " < > |`) has become `_`, so the
folder of `T-shirt/top` is `T-shirt_top`.
"""

import difflib
import re
import unicodedata
from collections.abc import Sequence

from dd2core.errors import DD2Error, some

NO_FOLDER = re.compile(r'[/\\:*?"<>|]')
NUMBERED = re.compile(r"(class[ _-]?)?\d+", re.IGNORECASE)  # what is no name, only a number
WORDNET = re.compile(r"n\d{8}")  # ImageNet's folders; in their order its classes are numbered


def composed(name: str) -> str:
    """The name in Unicode's NFC."""
    return unicodedata.normalize("NFC", name)


def folder_name(name: str) -> str:
    """What the folder of a class is called where its name cannot be a folder's."""
    return NO_FOLDER.sub("_", composed(name)).strip().rstrip(".")


def ordered(names: Sequence[str]) -> list[str]:
    """Class names in the order in which they are numbered: by number if all are, else by text."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names, key=composed)


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Raise DD2Error if two of the names mean the same class."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(folder_name(name), name)
        if other is not name or names.count(name) > 1:
            both = f"twice {name!r}" if other == name else f"{other!r} and {name!r}"
            raise DD2Error(f"{where} has {both}, which are one class by name: give each class a "
                           "name of its own, as in 'crane (bird)' and 'crane (machine)'.")


def match(own: Sequence[str], names: Sequence[str], where: str) -> list[int] | None:
    """Numbers among `names` of the classes `own`, by name; None where `own` have no such names.

    Args:
        own (Sequence[str]): classes of the data.
        names (Sequence[str]): classes of the base.
        where (str): what is compared, for the error.

    Raises:
        DD2Error: the base knows some of the names and not others, or has a name twice.
    """
    number = {folder_name(name): i for i, name in enumerate(names)}
    found = [number.get(folder_name(name)) for name in own]
    if not any(i is not None for i in found):
        return None
    unknown = [_suggested(name, names) for name, i in zip(own, found, strict=True) if i is None]
    if unknown:
        raise DD2Error(f"{where}: the base has no class {some(unknown)}; name the folders as its "
                       "config.json does, with _ for / and the like.")
    refuse_twice(names, where)
    return found


def count_as_numbers(own: Sequence[str], names: Sequence[str]) -> bool:
    """Whether classes may be matched by their order alone: one side has numbers and no names."""
    numbers = (all(NUMBERED.fullmatch(name) for name in side) for side in (own, names))
    return any(numbers) or all(WORDNET.fullmatch(name) for name in own)


def _suggested(name: str, names: Sequence[str]) -> str:
    folded = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    return f"{name!r} (is it {folded[near[0]]!r}?)" if near else repr(name)
