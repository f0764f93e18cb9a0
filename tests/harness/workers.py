"""Tests in several processes (pytest-xdist): a file stays in one, what takes longest comes first.

What drives a browser stays in one process: a browser and its page fill a core by themselves.
"""

import pytest

BROWSER = ("browser", "static_page/test_page")  # in the names of their files or folders
# Groups and folders by how long they take; all others come after them, in their usual order.
SLOWEST = ("browser", "tests/app/", "tests/train/engine/", "tests/train/")


def group(nodeid: str) -> str:
    """What a test shares its process with: its file, or all that drives a browser."""
    file = nodeid.partition("::")[0]
    return "browser" if any(word in file for word in BROWSER) else file


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort tests: a long file that began last would run alone at the end."""
    def place(item: pytest.Item) -> int:
        own = group(item.nodeid)
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
