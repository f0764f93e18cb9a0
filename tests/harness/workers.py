"""Tests in several processes (pytest-xdist): a file stays in one, what takes longest comes first.

What drives a browser stays in one process: a browser and its page fill a core by themselves. Files
that fork (`tests.support.forked`) come before the others: once a process has taken gradients of
fake tensors, as dry runs do, autograd refuses to work in what is forked from it.
"""

import pytest

FORKED = "tests.support.forked"
BROWSER = ("browser", "static_page/test_page")  # in the names of their files or folders
# Groups and folders by how long they take; all others come after them, in their usual order.
SLOWEST = ("tests/app/", "tests/train/engine/", "tests/train/")


def group(nodeid: str) -> str:
    """What a test shares its process with: its file, or all that drives a browser."""
    file = nodeid.partition("::")[0]
    return "browser" if any(word in file for word in BROWSER) else file


def forks(item: pytest.Item) -> bool:
    """Whether the test's file takes anything from `tests.support.forked`."""
    names = vars(getattr(item, "module", None) or object).values()
    return any(getattr(each, "__module__", "") == FORKED for each in names)


def forking_first(items: list[pytest.Item]) -> None:
    """Sort tests of one process."""
    items.sort(key=lambda item: not forks(item))


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort tests of several processes: a long file that began last would run alone at the end."""
    def place(item: pytest.Item) -> int:
        own = group(item.nodeid)
        if own == "browser":
            return -2
        if forks(item):
            return -1
        return next((i for i, start in enumerate(SLOWEST) if own.startswith(start)), len(SLOWEST))

    items.sort(key=place)


def scheduler(config: pytest.Config, log):
    """Hands whole groups to the processes, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class InGroups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, that is
    return InGroups(config, log)
