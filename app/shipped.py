"""The models inside this repository, in the order in which the pages offer them."""

from pathlib import Path

from dd2core import DD2Error
from dd2core.store.files import read_json
from dd2core.store.folder import ASSETS

# The first of these that is there opens the page; others follow by name.
PREFERRED = ("emoji-llamagen", "fashion-llamagen", "emoji-var", "fashion-var")


def shipped(assets: Path = ASSETS) -> list[str]:
    """Names of the shipped models that have a generator, the preferred ones first.

    Args:
        assets (Path): the folder of model folders; one without config.json is not on offer.
    """
    names = []
    for config in assets.glob("*/config.json"):
        try:
            parts = read_json(config).get("parts", [])
        except DD2Error:  # being written, or damaged: not on offer
            continue
        if "generator" in parts:
            names.append(config.parent.name)
    return sorted(names, key=_rank)


def first_shipped(assets: Path = ASSETS) -> str:
    """The model that the page opens with.

    Raises:
        DD2Error: there is none.
    """
    names = shipped(assets)
    if not names:
        raise DD2Error("No model lies in assets/: set DD2_MODEL to a preset, a folder or a hub id.")
    return names[0]


def _rank(name: str) -> tuple[int, str]:
    return (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name)
