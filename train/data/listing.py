"""The pictures below a folder, and what else lies there; nothing is opened.

Hidden files and folders, and those that archives and viewers leave (`NO_CLASS`), do not count.
"""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dd2core.errors import DD2Error
from train.data.notes import shown
from train.data.pixels import endings

NO_CLASS = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information",
            "lost+found"}


@dataclass
class Listing:
    """What lies in a folder.

    Attributes:
        pictures: paths, in the order of their folders' paths.
        direct: how many of them lie in the folder itself.
        folders: sub-folders that may be classes, by name.
        others: files that are not read, by ending.
        inside: sub-folders below which there are pictures.
    """

    pictures: list[str] = field(default_factory=list)
    direct: int = 0
    folders: list[str] = field(default_factory=list)
    others: Counter = field(default_factory=Counter)
    inside: set[str] = field(default_factory=set)


def list_folder(folder: Path, deep: bool = True) -> Listing:
    """The pictures below a folder, or with `deep=False` in it alone.

    Raises:
        DD2Error: a folder that cannot be opened or is linked into itself, or something named like a
            picture that is no file (a link to nothing, a pipe).
    """
    found, known = Listing(), endings()
    waiting = [(os.fspath(folder), frozenset([_identity(folder)]))]
    parts: list[tuple[str, list[str]]] = []
    while waiting:
        where, above = waiting.pop()
        names: list[str] = []
        for entry in _scan(where):
            if entry.name.startswith(".") or entry.name.casefold() in NO_CLASS:
                continue
            if _is_folder(entry):
                if where == os.fspath(folder):
                    found.folders.append(entry.name)
                if deep:
                    waiting.append((entry.path, above | {_below(entry, above)}))
            elif os.path.splitext(entry.name)[1].lower() in known:
                _check_file(entry)
                names.append(entry.name)
            else:
                found.others[os.path.splitext(entry.name)[1].lower() or "no ending"] += 1
        parts.append((where, sorted(names)))
    for where, names in sorted(parts):
        found.pictures += [os.path.join(where, name) for name in names]
        inner = os.path.relpath(where, folder).partition(os.sep)[0]
        if inner == ".":
            found.direct = len(names)
        elif names:
            found.inside.add(inner)
    found.folders.sort()
    return found


def _scan(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DD2Error(f"{shown(folder)} cannot be opened ({error.strerror}): give the right to "
                       "read it, or move it away.") from None


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _identity(folder: str | os.PathLike) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _below(entry: os.DirEntry, above: frozenset) -> tuple[int, int]:
    own = _identity(entry.path)
    if own in above:
        raise DD2Error(f"{shown(entry.path)} is a link to a folder that it lies in: remove it.")
    return own


def _check_file(entry: os.DirEntry) -> None:
    try:
        regular = entry.is_file()
    except OSError:
        regular = False
    if regular:
        return
    try:
        kind = "a pipe" if stat.S_ISFIFO(os.stat(entry.path).st_mode) else "a device or socket"
    except OSError:
        kind = "a link to nothing"
    raise DD2Error(f"{shown(entry.path)} is {kind}, not a picture: remove it.")
