"""A frozen dataclass ↔ a JSON object, every field checked on the way in."""

import dataclasses
import math
import types
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from dd2core.errors import DD2Error

if TYPE_CHECKING:  # a name that type checkers alone know
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


def from_json(kind: type[Record], values: object) -> Record:
    """An instance of `kind` from a JSON object.

    Args:
        kind (type): a dataclass whose fields are str, bool, int, float, dict[str, X],
            tuple[X, ...], other such dataclasses, or one of these or None.
        values (object): what `json.loads` gave.

    Raises:
        ValueError: says in a few words what is missing, unknown, of another type or not finite.
    """
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    required = {name for name, f in fields.items() if f.default is dataclasses.MISSING
                and f.default_factory is dataclasses.MISSING}
    for what, names in (("missing", required - values.keys()),
                        ("unknown", values.keys() - fields.keys())):
        if names:
            raise ValueError(f"{what}: {', '.join(sorted(names))}")
    hints = get_type_hints(kind)
    checked = {name: _checked(hints[name], value, name) for name, value in values.items()}
    try:
        return kind(**checked)
    except DD2Error as error:  # a part that checks itself, such as `Sampling`
        raise ValueError(str(error).rstrip(".")) from None


def _checked(kind: Any, value: Any, name: str) -> Any:
    """`value` as `kind` has it."""
    inner = get_args(kind)
    if isinstance(kind, types.UnionType):
        if value is None and types.NoneType in inner:
            return None
        [kind] = [k for k in inner if k is not types.NoneType]
        inner = get_args(kind)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {k: _checked(inner[1], v, f"{name}.{k}") for k, v in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_checked(inner[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        try:
            return from_json(kind, value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number and math.isfinite(value):
        return float(value)
    if kind in (str, bool, int) and type(value) is kind:
        return value
    raise ValueError(f"{name}={value!r}")


def to_json(record: Any) -> dict[str, Any]:
    """A record as a JSON object; a field that may be absent, and is None, is left out."""
    absent = {f.name for f in dataclasses.fields(record)
              if f.default is None and getattr(record, f.name) is None}
    return {k: v for k, v in dataclasses.asdict(record).items() if k not in absent}
