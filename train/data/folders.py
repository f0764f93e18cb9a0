"""Which class folders and pictures a folder holds, whatever way it is laid out.

Either class folders, or `train` beside one of `HELD_OUT` (in any case), each of the same class
folders; below a class folder pictures may lie at any depth. What is not read is returned by name
and number. Whatever would train on classes that are none is refused.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dd2core.errors import DD2Error, some
from train.data.classes import composed, ordered, refuse_twice
from train.data.listing import Listing, list_folder
from train.data.notes import shown

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test", "testing")  # the first that is there counts


@dataclass(frozen=True)
class Classes:
    """The class folders of one part: pictures by class, in order, and what was not read."""

    folder: Path
    pictures: dict[str, list[str]]
    others: Counter
    left_out: tuple[str, ...] = ()


def find_classes(folder: Path) -> tuple[Classes, Classes | None]:
    """The class folders of both parts; None where nothing is held out by folders of its own.

    Raises:
        DD2Error: see the module, `list_folder` and `one_part`.
    """
    top = list_folder(folder, deep=False)
    if len(top.folders) == 1 and not top.direct:  # one level too high
        inner = list_folder(folder / top.folders[0], deep=False)
        if any(name.casefold() in TRAIN for name in inner.folders):
            return find_classes(folder / top.folders[0])
    named = {wanted: [f for f in top.folders if f.casefold() in wanted]
             for wanted in (TRAIN, HELD_OUT)}
    if not named[TRAIN] or _is_class(folder, top.folders):
        return one_part(folder), None
    if len(named[TRAIN]) > 1:
        raise DD2Error(f"data={shown(folder)} has {' and '.join(named[TRAIN])}: leave one of them.")
    held = min(named[HELD_OUT], key=lambda f: HELD_OUT.index(f.casefold()), default=None)
    beside = set(top.folders) - {*named[TRAIN], held}
    rest = (*(f"{name}/" for name in sorted(beside)),
            *([_pictures(top.direct)] if top.direct else []))
    train = one_part(folder / named[TRAIN][0], rest)
    return train, None if held is None else one_part(folder / held)


def _is_class(folder: Path, names: list[str]) -> bool:
    """Whether `train` is a class as `bus` and `car` are: no folder has folders in it, or pictures
    lie in one that is named like no part."""
    found = {name: list_folder(folder / name, deep=False) for name in names}
    return not any(f.folders for f in found.values()) or any(
        f.direct for name, f in found.items() if name.casefold() not in (*TRAIN, *HELD_OUT))


def one_part(folder: Path, left_out: tuple[str, ...] = ()) -> Classes:
    """The class folders in a folder.

    A folder that holds nothing but one folder of class folders stands for that.

    Raises:
        DD2Error: there are none, one is empty, or all of them hold folders in place of pictures.
    """
    top, where = list_folder(folder, deep=False), shown(folder)
    if not top.folders:
        raise DD2Error(_no_folders(where, top))
    below = {name: list_folder(folder / name) for name in ordered(top.folders)}
    if not any(found.pictures for found in below.values()):
        others = sum((found.others for found in below.values()), Counter())
        raise DD2Error(f"data={where} holds no class folders with pictures that can be read"
                       f"{_kinds(others)}: put each class's pictures into a sub-folder of its own.")
    high = {name: found for name, found in below.items() if found.pictures}
    if not any(found.direct for found in high.values()) and not top.direct:
        if len(high) == 1:
            [name] = high
            rest = tuple(f"{other}/" for other in below if other != name)
            return _descended(folder / name, (*left_out, *rest))
        _too_high(folder, where, high)
    if top.direct > sum(len(found.pictures) for found in below.values()):
        raise DD2Error(f"data={where} holds {top.direct} pictures beside its folders, more than in "
                       "them: put them into class folders, or name the folder above.")
    if {name.casefold() for name in below} <= {*TRAIN, *HELD_OUT}:
        raise DD2Error(f"data={where}: {some(list(below))} hold pictures and no class folders: put "
                       "each class's pictures into a sub-folder of its own.")
    return _checked(folder, top, below, left_out)


def _descended(folder: Path, left_out: tuple[str, ...]) -> Classes:
    found = one_part(folder)
    return Classes(found.folder, found.pictures, found.others, (*left_out, *found.left_out))


def _checked(folder: Path, top: Listing, below: dict[str, Listing],
             left_out: tuple[str, ...]) -> Classes:
    for name, found in below.items():
        if not name.isprintable():
            raise DD2Error(f"{shown(folder / name)} has a name that cannot be shown: rename it in "
                           "UTF-8, without control characters.")
        if not found.pictures:
            raise DD2Error(f"{shown(folder / name)} is a class without pictures that can be read"
                           f"{_kinds(found.others)}: add some, or move the folder away.")
    refuse_twice(list(below), f"data={shown(folder)}")
    others = sum((found.others for found in below.values()), Counter())
    beside = (f"{_pictures(top.direct)} beside the class folders",) if top.direct else ()
    return Classes(folder, {composed(name): found.pictures for name, found in below.items()},
                   others, (*left_out, *beside))


def _no_folders(where: str, top: Listing) -> str:
    if top.direct:
        return (f"data={where} holds {top.direct} pictures and no class folders: put each class's "
                "pictures into a sub-folder of its own, or name the folder above if this is a "
                "class.")
    return (f"data={where} holds no class folders with pictures{_kinds(top.others)}: put each "
            "class's pictures into a sub-folder of its own.")


def _too_high(folder: Path, where: str, high: dict[str, Listing]) -> None:
    name, found = next(iter(high.items()))
    raise DD2Error(f"data={where}: its folders {some(list(high))} hold folders "
                   f"({some(sorted(found.inside), 3)}) and no pictures: name the one that holds "
                   f"the class folders, as in data={shown(folder / name)}.")


def _pictures(n: int) -> str:
    return f"{n} picture" if n == 1 else f"{n} pictures"


def _kinds(others: Counter) -> str:
    return f" ({kinds(others)} are not read)" if others else ""


def kinds(others: Counter) -> str:
    """`12 of .heic, 3 of .txt`: how many files of which endings."""
    return some([f"{n} of {shown(ending)}" for ending, n in others.most_common()])
