"""What config.json may say: values of the types that the size dataclasses declare."""

import dataclasses
import math
import types
from typing import Any, get_args, get_origin, get_type_hints


def check_types(sizes: Any) -> None:
    """Compare a dataclass of sizes with its own annotations.

    Raises:
        ValueError: a value is of another type, or a number that is negative or not finite.
    """
    for name, kind in get_type_hints(type(sizes)).items():
        value = getattr(sizes, name)
        if not fits(value, kind):
            raise ValueError(f"{name}={str(value)[:50]!r} is not possible")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; a whole number is a float too, True is no number."""
    if isinstance(kind, types.UnionType):
        return any(fits(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return isinstance(value, tuple) and len(value) > 0 and all(fits(v, inner) for v in value)
    if kind in (int, float):
        number = isinstance(value, int) or (kind is float and isinstance(value, float))
        return number and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return isinstance(value, kind)


def list_of_names(value: Any) -> list[str]:
    """The list of names that config.json holds.

    Raises:
        ValueError: it is none, or has a name that is empty or no text.
    """
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        raise ValueError("class_names and parts must be lists of names")
    return value


@dataclasses.dataclass(frozen=True)
class Head:
    """config.json's head: what it takes to build a `ConditionalScoreModel` on a backbone."""

    width: int
    depth: int
    t_init: float
    prediction: str = "denoised"  # folders written before it was a choice do not have it
    generator_depth: int | None = None  # blocks of the generator; None: as many as the teacher's
