"""emoji.json: which emoji there are, with which skin tones, and which of them are one and the same.

*Codes* are the code points of an emoji in hexadecimal, lower case, joined by `-`, without the
variation selector fe0f, which sets of pictures write or leave out as they like.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from dd2core.errors import DD2Error
from train.data.emoji.classes import CLASS_OF, LEFT_OUT, may_mirror

SELECTOR = "fe0f"
_TONES = frozenset(["1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"])
# A woman, man and person who do the same thing are drawn alike, so they share a family: they are
# trained on together or held out together. `\b` keeps to whole code points.
_GENDER = re.compile(r"-200d-(2640|2642)\b")
_FACING = re.compile(r"-200d-27a1\b")  # facing right
_SAME = {"1f468": "1f9d1", "1f469": "1f9d1", "1f466": "1f9d2", "1f467": "1f9d2",
         "1f474": "1f9d3", "1f475": "1f9d3"}
_PAIRS = {  # older code points of what is also written as people joined together
    "1f46b": "1f9d1-200d-1f91d-200d-1f9d1", "1f46c": "1f9d1-200d-1f91d-200d-1f9d1",
    "1f46d": "1f9d1-200d-1f91d-200d-1f9d1", "1f48f": "1f9d1-200d-2764-200d-1f48b-200d-1f9d1",
    "1f491": "1f9d1-200d-2764-200d-1f9d1", "1f46a": "1f9d1-200d-1f9d1-200d-1f9d2",
}


@dataclass(frozen=True)
class Emoji:
    """One emoji, whatever its skin tone."""

    codes: str
    order: int  # of emoji.json's list
    category: str  # the class of its pictures, see `train.data.emoji.classes`
    mirrored: bool  # whether its mirror image is as good
    family: str  # codes that emoji share which are drawn alike


@dataclass(frozen=True)
class Catalogue:
    """All emoji.

    Attributes:
        emoji: codes, also those with skin tones → the emoji.
        names: plain names (`plain_name`) → codes.
    """

    emoji: dict[str, Emoji]
    names: dict[str, str]


def as_codes(text: str) -> str:
    """Codes of any writing: `0039-FE0F-20E3`, `39_20e3`.

    Raises:
        ValueError: the text has something else in it.
    """
    points = [f"{int(point, 16):04x}" for point in re.split("[-_]", text)]
    return "-".join(p for p in points if p != SELECTOR)


def plain_name(text: str) -> str:
    """Small letters and digits alone; `skin tone` is left out, as some sets do."""
    return re.sub("[^a-z0-9]", "", text.lower().replace("-skin-tone", ""))


def family_of(codes: str) -> str:
    """What women, men and persons of any skin tone share; see `Emoji`."""
    base = "-".join(p for p in codes.split("-") if p not in _TONES)
    base = _PAIRS.get(base, _FACING.sub("", _GENDER.sub("", base)))
    return "-".join(_SAME.get(p, p) for p in base.split("-"))


def read_catalogue(data: bytes, chars: Iterable[tuple[str, str]] = ()) -> Catalogue:
    """The catalogue in the bytes of emoji.json.

    Args:
        data (bytes): a list of emoji with `unified`, `category`, `skin_variations`, ….
        chars (Iterable): (writing of codes, name) of further names; these come first.

    Raises:
        DD2Error: it is not such a list, or has a sub-category that no class is made of.
    """
    try:
        return _read(json.loads(data), chars)
    except DD2Error:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DD2Error(f"emoji.json of the package is not as it was published ({error}): remove "
                       "the package's .tgz file and run the same command again.") from None


def _read(rows: list[dict], chars: Iterable[tuple[str, str]]) -> Catalogue:
    emoji: dict[str, Emoji] = {}
    names: dict[str, str] = {}
    for text, name in chars:
        names.setdefault(plain_name(name), as_codes(text))
    ordered = sorted(rows, key=lambda r: r["sort_order"])
    for order, row in enumerate(ordered):
        sub = row["subcategory"]
        if sub in LEFT_OUT:
            continue
        if sub not in CLASS_OF:
            raise DD2Error(f"emoji.json has a sub-category {sub!r}: add it to a class in "
                           "train/data/emoji/classes.py.")
        codes = as_codes(row["unified"])
        one = Emoji(codes, order, CLASS_OF[sub], may_mirror(codes, sub), family_of(codes))
        variations = (row.get("skin_variations") or {}).values()
        for text in (row["unified"], row.get("non_qualified"),
                     *(v["unified"] for v in variations)):
            if text:
                emoji.setdefault(as_codes(text), one)
    for key in ("short_names", "name"):  # a short name of one may be the long one of another
        for row in ordered:
            texts = row.get(key) or ()
            for name in [texts] if isinstance(texts, str) else texts:
                names.setdefault(plain_name(name), as_codes(row["unified"]))
    return Catalogue(emoji, names)
