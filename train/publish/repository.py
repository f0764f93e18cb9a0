"""The repository's public address: written once, in pyproject.toml."""

import functools
import tomllib
from importlib import metadata
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@functools.cache
def repository() -> str:
    """`Repository` of [project.urls]; of the installed package where that file is not there."""
    if PYPROJECT.is_file():
        return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    urls = (line.partition(", ") for line in metadata.metadata("dd2").get_all("Project-URL") or ())
    return {name: address for name, _, address in urls}["Repository"]
