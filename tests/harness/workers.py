"""Tests in several processes (pytest-xdist): a file stays in one, what takes longest comes first.

What drives a browser stays in one process: a browser and its page fill a core by themselves.
"""

import pytest

BROWSER = ("tests/app/browser/", "tests/app/own/test_browser.py", "tests/static_page/test_page.py")
# Files and folders by how long they take; all others come after them, in their usual order.
SLOWEST = (*BROWSER, "tests/train/engine/", "tests/train/", "tests/graphs/", "tests/app/")


def group(nodeid: str) -> str:
    """What a test shares its process with: its file, or all that drives a browser."""
    file = nodeid.partition("::")[0]
    return "browser" if file.startswith(BROWSER) else file


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort tests: a long file that began last would run alone at the end."""
    items.sort(key=lambda item: next(
        (i for i, start in enumerate(SLOWEST) if item.nodeid.startswith(start)), len(SLOWEST)))


def scheduler(config: pytest.Config, log):
    """Hands whole groups to the processes, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class InGroups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, that is
    return InGroups(config, log)
