"""Which emoji are held out: every tenth of a class, in all its styles, skin tones and genders.

The same picture may stand for several emoji (the flags of Norway, Svalbard and Bouvet Island): what
looks the same in any style is one, so that no held-out picture is also trained on.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise

from train.data.emoji.catalogue import Emoji

EVERY = 10
FIRST = 4  # so that a class of five has one


class _Sets:
    """Disjoint sets of names; a set's smallest name stands for it."""

    def __init__(self) -> None:
        self.above: dict[str, str] = {}

    def find(self, name: str) -> str:
        while (up := self.above.setdefault(name, name)) != name:
            name = up
        return name

    def join(self, one: str, other: str) -> None:
        one, other = sorted((self.find(one), self.find(other)))
        self.above[other] = one


def held_out(emoji: Iterable[Emoji], looks: Mapping[str, Iterable[str]]) -> set[str]:
    """The codes of the emoji to hold out, every tenth family of each class, at least one.

    Args:
        emoji (Iterable[Emoji]): all that have a picture.
        looks (Mapping[str, Iterable[str]]): digest of a picture → codes of the emoji that it is of.
    """
    ordered = sorted(set(emoji), key=lambda e: e.order)
    family, sets = {e.codes: e.family for e in ordered}, _Sets()
    for alike in looks.values():
        for one, other in pairwise(sorted(alike)):
            sets.join(family[one], family[other])
    classes: dict[str, dict[str, None]] = {}
    placed: set[str] = set()
    for e in ordered:  # a set counts in the class where it comes first
        whole = sets.find(e.family)
        if whole not in placed:
            placed.add(whole)
            classes.setdefault(e.category, {})[whole] = None
    chosen = {whole for found in classes.values() for whole in _tenth(list(found))}
    return {e.codes for e in ordered if sets.find(e.family) in chosen}


def _tenth(names: list[str]) -> list[str]:
    return names[FIRST::EVERY] or names[-1:]
