"""Which tests share a process when there are several, and which come first."""

from pathlib import Path
from types import SimpleNamespace

from tests.harness.workers import SLOWEST, dry_last, group, is_dry, slowest_first

ROOT = Path(__file__).parents[1]
MARK = "pytest.mark." + "browser"


def test_all_that_drives_a_browser_shares_a_process_and_nothing_else_is_there():
    files = {str(p.relative_to(ROOT)): p.read_text() for p in ROOT.glob("tests/**/test_*.py")}
    marked = {name for name, text in files.items() if MARK in text}
    assert marked and {name for name in files if group(f"{name}::test_x") == "browser"} == marked


def test_every_other_file_is_a_group_and_keeps_its_order_behind_what_takes_longer():
    names = ["tests/store/test_NAME.py::test_1", "tests/store/test_NAME.py::test_2",
             "tests/train/test_NAME.py::test_1", "tests/app/browser/test_browser.py::test_1"]
    items = [SimpleNamespace(nodeid=name, path=Path(__file__)) for name in names]
    slowest_first(items)
    assert [item.nodeid for item in items] == [names[3], names[2], names[0], names[1]]
    assert [group(name) for name in names[:3]] == [*2 * ["tests/store/test_NAME.py"],
                                                   "tests/train/test_NAME.py"]


def test_files_with_dry_runs_come_after_all_that_fork(tmp_path):
    """In several processes, and in a single one."""
    (tmp_path / "dry").write_text('cli("gts", "dry_run=' + 'true")')
    (tmp_path / "plain").write_text("x = 1")
    (tmp_path / "fork").write_text("from tests.support." + "forked import forked")
    names = ["tests/train/engine/test_NAME.py::test_1", "tests/train/test_NAME.py::test_1",
             "tests/store/test_NAME.py::test_1"]
    for kind in ("plain", "fork"):
        items = [SimpleNamespace(nodeid=name, path=tmp_path / own)
                 for name, own in zip(names, ("dry", kind, "plain"), strict=True)]
        slowest_first(items)
        assert [i.nodeid for i in items] == [names[1], names[0], names[2]]
        dry_last(items)
        assert [i.nodeid for i in items] == [names[1], names[2], names[0]]
    forking = [p for p in ROOT.glob("tests/**/test_*.py") if "support.forked" in p.read_text()]
    own = [p for p in forking if p != Path(__file__)]
    assert len(own) > 8 and not [p for p in own if is_dry(p)]
    assert all(str(p.relative_to(ROOT)).startswith(SLOWEST) for p in own)
