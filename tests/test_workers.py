"""Which tests share a process when there are several, and which come first."""

from pathlib import Path
from types import SimpleNamespace

from tests.harness.workers import forking_first, group, slowest_first
from tests.support.forked import alone, forked

ROOT = Path(__file__).parents[1]
MARK = "pytest.mark." + "browser"


def test_all_that_drives_a_browser_shares_a_process_and_nothing_else_is_there():
    files = {str(p.relative_to(ROOT)): p.read_text() for p in ROOT.glob("tests/**/test_*.py")}
    marked = {name for name, text in files.items() if MARK in text}
    assert marked and {name for name in files if group(f"{name}::test_x") == "browser"} == marked


def test_every_other_file_is_a_group_and_keeps_its_order_behind_what_takes_longer():
    names = ["tests/store/test_NAME.py::test_1", "tests/store/test_NAME.py::test_2",
             "tests/train/test_NAME.py::test_1", "tests/app/browser/test_browser.py::test_1"]
    items = [SimpleNamespace(nodeid=name) for name in names]
    slowest_first(items)
    assert [item.nodeid for item in items] == [names[3], names[2], names[0], names[1]]
    assert [group(name) for name in names[:3]] == [*2 * ["tests/store/test_NAME.py"],
                                                   "tests/train/test_NAME.py"]


def test_what_forks_comes_before_what_may_take_gradients_of_fake_tensors():
    """In several processes behind the browser's alone, and in a single one."""
    def item(name, *values):
        return SimpleNamespace(nodeid=name, module=SimpleNamespace(
            **{f"name_{i}": value for i, value in enumerate(values)}))

    names = ["tests/app/test_a.py::test_1", "tests/train/test_b.py::test_1",
             "tests/app/browser/test_browser.py::test_1", "tests/train/test_c.py::test_1"]
    items = [item(names[0]), item(names[1], 3, SimpleNamespace), item(names[2]),
             item(names[3], forked)]
    slowest_first(items)
    assert [i.nodeid for i in items] == [names[2], names[3], names[0], names[1]]
    items = [item(names[0]), item(names[3], alone)]
    forking_first(items)
    assert [i.nodeid for i in items] == [names[3], names[0]]
