"""The families of teachers, by name: the one place that lists them.

A family is a folder: tokenizer, transformer and teacher behind `Teacher`, the sizes of both
networks, the names in official checkpoints, and a `FAMILY` in its `__init__`. Adding one means
adding that folder and a row here (docs/extending.md).
"""

from collections.abc import Mapping

from dd2core.errors import DD2Error
from dd2core.families import llamagen, var
from dd2core.families.checkpoints import unwrap
from dd2core.families.family import Family

__all__ = ["FAMILIES", "Family", "find_family", "recognise"]

FAMILIES: dict[str, Family] = {"llamagen": llamagen.FAMILY, "var": var.FAMILY}


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        DD2Error: there is none; lists those that exist.
    """
    if name not in FAMILIES:
        raise DD2Error(f"family={name} is unknown: use one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def recognise(state: Mapping, what: str = "The checkpoint") -> tuple[str, str]:
    """Family and part (`transformer` or `tokenizer`) of a checkpoint, bare or wrapped.

    Raises:
        DD2Error: it is of no family; names `what`.
    """
    names = unwrap(state)
    for name, family in FAMILIES.items():
        for key, part in family.marks.items():
            if key in names:
                return name, part
    keys = ", ".join(key for family in FAMILIES.values() for key in family.marks)
    raise DD2Error(f"{what} is no LlamaGen or VAR checkpoint: it has none of {keys}.")
