"""Import rules: the contracts of pyproject.toml, and no circles among modules."""

import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
HOUSE = {"dd2core.a": "", "dd2core.b": "", "train.a": "",
         "app.a": "import dd2core.b", "tests.a": "import app.a, train.a, dd2core.a", "tests.b": ""}


def imports(*packages: str) -> dict[str, set[str]]:
    """Module → the modules it needs: those it imports anywhere in its code, and the packages in
    which they lie, since Python runs these first."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    needs = {m: set(graph.find_modules_directly_imported_by(m)) for m in graph.modules}
    for module, found in needs.items():
        parents = {n[:i] for n in found for i, c in enumerate(n) if c == "."}
        found |= {p for p in parents if not f"{module}.".startswith(f"{p}.")}
    return needs


def circle(needs: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there are none."""
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def contracts(folder: Path) -> subprocess.CompletedProcess:
    """Check the contracts of `folder`/pyproject.toml."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run([sys.executable, "-c", command, "--no-cache"], cwd=folder,
                          capture_output=True, text=True, timeout=300)


def build(folder: Path, files: dict[str, str]) -> None:
    """A house of four packages under the contracts of this one."""
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for name, code in files.items():
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(code + "\n")


def test_the_house_keeps_its_contracts():
    result = contracts(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_modules_import_each_other_in_a_circle():
    needs = imports(*RULES["root_packages"])
    assert len(needs) > 150 and sum(map(len, needs.values())) > 700  # the whole house was read
    assert circle(needs) == []


def test_a_house_without_a_breach_keeps_the_contracts(tmp_path):
    build(tmp_path, HOUSE)
    result = contracts(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


METHOD, APART, TESTS = (contract["name"] for contract in RULES["contracts"])


@pytest.mark.parametrize("module, code, rule", [
    ("dd2core.a", "import train.a", METHOD),
    ("dd2core.a", "from app import a", METHOD),
    ("dd2core.a", "def late():\n    import app.a", METHOD),
    ("train.a", "from app.a import x", APART),
    ("app.a", "import train.a", APART),
    ("dd2core.a", "import tests.b", TESTS),
    ("train.a", "from tests import b", TESTS),
    ("app.a", "if True:\n    from tests.b import x", TESTS),
])
def test_each_kind_of_breach_breaks_its_contract(tmp_path, module, code, rule):
    build(tmp_path, HOUSE | {module: code})
    result = contracts(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.findall(r"^(.*) BROKEN$", result.stdout, re.M) == [rule]


@pytest.mark.parametrize("files", [
    {"dd2circle.a": "import dd2circle.b", "dd2circle.b": "from dd2circle import a"},
    {"dd2circle.a": "import dd2circle.b",
     "dd2circle.b": "def late():\n    import dd2circle.a"},
    {"dd2circle.a": "from dd2circle.room.part import x", "dd2circle.room.part": "x = 1",
     "dd2circle.room.__init__": "import dd2circle.a"},
], ids=["plain", "within a function", "through a package"])
def test_a_circle_is_found(tmp_path, monkeypatch, files):
    build(tmp_path, {"dd2circle.c": ""} | files)
    monkeypatch.syspath_prepend(tmp_path)
    assert "dd2circle.a" in circle(imports("dd2circle"))


def test_modules_of_a_package_that_import_it_not_are_no_circle(tmp_path, monkeypatch):
    build(tmp_path, {"dd2circle.a": "import dd2circle.b", "dd2circle.b": "",
                     "dd2circle.__init__": "import dd2circle.a"})
    monkeypatch.syspath_prepend(tmp_path)
    assert circle(imports("dd2circle")) == []
