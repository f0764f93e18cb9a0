"""Tests in several processes (pytest-xdist): a file stays in one, what takes longest comes first.

What drives a browser stays in one process: a browser and its page fill a core by themselves. Files
with dry runs come after those that fork (`tests.support.forked`): once a process has taken
gradients of fake tensors, as dry runs do, autograd refuses to work in what is forked from it.
"""

import functools
import re
from pathlib import Path

import pytest

DRY = re.compile(r"dry_run=(true|True)|\bestimate\(")
BROWSER = ("browser", "static_page/test_page")  # in the names of their files or folders
# Folders by how long they take: what drives a browser comes before them, files with dry runs and
# then all others after them, in their usual order. Those that fork are in these folders.
SLOWEST = ("tests/app/", "tests/train/engine/", "tests/train/")


def group(nodeid: str) -> str:
    """What a test shares its process with: its file, or all that drives a browser."""
    file = nodeid.partition("::")[0]
    return "browser" if any(word in file for word in BROWSER) else file


@functools.cache
def forks(path: Path) -> bool:
    """Whether a file of tests forks."""
    return "support.forked" in path.read_text()


@functools.cache
def is_dry(path: Path) -> bool:
    """Whether a file of tests has dry runs in it."""
    return DRY.search(path.read_text()) is not None


def dry_last(items: list[pytest.Item]) -> None:
    """Sort tests of one process."""
    items.sort(key=lambda item: (not forks(item.path), is_dry(item.path)))


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort tests of several processes: a long file that began last would run alone at the end."""
    def place(item: pytest.Item) -> float:
        own = group(item.nodeid)
        if own == "browser":
            return -1
        found = next((i for i, start in enumerate(SLOWEST) if own.startswith(start)), None)
        if found is None:
            return len(SLOWEST) + 1
        if found and forks(item.path):  # behind the page's tests alone, which take no gradients
            return 0.5
        return len(SLOWEST) if is_dry(item.path) else found

    items.sort(key=place)


def scheduler(config: pytest.Config, log):
    """Hands whole groups to the processes, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class InGroups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, that is
    return InGroups(config, log)
