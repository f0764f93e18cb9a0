"""References hold: sections and equations of docs/method.md, files and names that the docs name.

Each check is a function from text to what is wrong with it, so the same functions are shown to find
each sort of fault.
"""

import ast
import dataclasses
import importlib
import inspect
import io
import re
import tokenize
from pathlib import Path

import pytest

import dd2core
from train.settings.schema import Config

ROOT = Path(__file__).parents[1]
METHOD = (ROOT / "docs/method.md").read_text()
SECTIONS = {int(n) for n in re.findall(r"^## (\d+)\. ", METHOD, re.M)}
FOLDERS, SUFFIXES = ("app", "dd2core", "docs", "tests", "train"), (".py", ".yaml", ".sh", ".md")
FILES = [f for folder in FOLDERS for f in sorted((ROOT / folder).rglob("*"))
         if f.suffix in SUFFIXES and f != Path(__file__)]
FILES += [f for f in ROOT.glob("*") if f.suffix in SUFFIXES]
DOCS = [ROOT / "docs/method.md", ROOT / "docs/extending.md"]
# method §2 · method §2–3 · method §3, §7 · method §4 (6)–(7)
REFERENCE = re.compile(r"method (§\d+(?:(?:–|, §)\d+)*)(?:\s\((\d+)\)(?:–\((\d+)\))?)?")
EQUATION = re.compile(r"(?<![\w.)\]])\((\d+)\)")  # not f(1)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def equations(text: str) -> dict[int, int]:
    """Number of each displayed equation → number of its section."""
    parts = re.split(r"^## (\d+)\. ", text, flags=re.M)
    return {int(n): int(section) for section, body in zip(parts[1::2], parts[2::2], strict=True)
            for n in re.findall(r"\\qquad \((\d+)\)$", body, re.M)}


EQUATIONS = equations(METHOD)


def prose(source: str) -> str:
    """Comments and docstrings of Python source, wrapped lines joined."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = [t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT]
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines += [ast.get_docstring(n) or "" for n in ast.walk(ast.parse(source))
              if isinstance(n, nodes)]
    return re.sub(r"\s+", " ", " ".join(lines))


def flowing(path: Path, text: str) -> str:
    """What a file says in words, wrapped lines joined."""
    return prose(text) if path.suffix == ".py" else re.sub(r"\s*\n\s*#?\s*", " ", text)


def cited(text: str) -> list[tuple[set[int], set[int]]]:
    """Sections and equations of each reference to the method."""
    found = []
    for where, first, last in REFERENCE.findall(text):
        ends = [[int(n) for n in part.split("–")] for part in where.replace("§", "").split(", ")]
        sections = {n for part in ends for n in range(part[0], part[-1] + 1)}
        found.append((sections, set(range(int(first), int(last or first) + 1)) if first else set()))
    return found


def wrong_references(text: str) -> list[str]:
    """References to sections or equations that are not in docs/method.md, or not together."""
    wrong = []
    for sections, numbers in cited(text):
        wrong += [f"§{n} does not exist" for n in sections - SECTIONS]
        wrong += [f"({n}) is not in §{sections}" for n in numbers
                  if EQUATIONS.get(n) not in sections]
    return wrong


def loose_references(text: str) -> list[str]:
    """A § that does not say of what, or an equation number that does not exist."""
    rest = REFERENCE.sub("", text)
    numbers = [n for n in EQUATION.findall(text) if int(n) not in EQUATIONS]
    return re.findall(r".{0,30}§.{0,10}", rest) + [f"({n})" for n in numbers]


def names_all(node: ast.Assign) -> bool:
    return [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]


def names_of(path: Path) -> set[str]:
    """What a Python file defines at its top level."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {t.id for t in targets if isinstance(t, ast.Name)}
        if isinstance(node, ast.Assign) and names_all(node):
            names |= set(ast.literal_eval(node.value))  # re-exported
    return names


def settings() -> set[str]:
    """`section.key` of every setting."""
    kinds = {f.name: f.default_factory for f in dataclasses.fields(Config)
             if f.default_factory is not dataclasses.MISSING}
    return {f"{name}.{field.name}" for name, make in kinds.items()
            if dataclasses.is_dataclass(make()) for field in dataclasses.fields(make())}


SETTINGS = settings()


def importable(dotted: str) -> bool:
    """Whether `package.module.name` leads to something."""
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for name in parts[k:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def missing_names(text: str) -> list[str]:
    """Files, names in files, modules, settings and links of a page that do not exist.

    A file or folder that a reader is asked to write has NAME in its path.
    """
    missing = []
    for path, name in re.findall(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:py|md))(?:::(\w+))?`", text):
        if "NAME" in path:
            continue
        file = ROOT / path
        if not file.exists():
            missing.append(path)
        elif name and name not in names_of(file):
            missing.append(f"{path}::{name}")
    dotted = re.findall(r"`((?:dd2core|train|app|tests)(?:\.\w+)+)(?:\(\))?`", text)
    dotted += re.findall(r"^ *from ((?:dd2core|train|app)[\w.]*) import ", text, re.M)
    missing += [d for d in dotted if "NAME" not in d and not importable(d)]
    sections = {s.split(".")[0] for s in SETTINGS}
    keys = [k for span in re.findall(r"`([^`\n]+)`", text)
            for k in re.findall(r"(?:^| )(\w+\.\w+)(?==|$| )", span)]
    missing += [k for k in keys if k.split(".")[0] in sections and k not in SETTINGS]
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)", text)
    return missing + [link for link in links if not (ROOT / "docs" / link).exists()]


def missing_files(text: str) -> list[str]:
    """Files of the repository and modules to run, named anywhere, that do not exist."""
    kinds = r"(?<![\w/.-])((?:app|dd2core|docs|tests|train)/[\w/-]+\.(?:py|yaml|md|sh))(?!\w)"
    missing = [f for f in re.findall(kinds, text) if "NAME" not in f and not (ROOT / f).exists()]
    modules = re.findall(r"python -m ((?:app|tests|train)(?:\.\w+)+)", text)
    names = (m.replace(".", "/") for m in modules if not re.search(r"\.[A-Z]+$", m))
    return missing + [n for n in names if not any(
        (ROOT / f).is_file() for f in (f"{n}.py", f"{n}/__main__.py"))]


# The repository ------------------------------------------------------------------------------


def test_the_method_has_sections_1_to_10_and_its_equations_in_order():
    assert [int(n) for n in re.findall(r"^## (\d+)\. ", METHOD, re.M)] == list(range(1, 11))
    assert list(EQUATIONS) == list(range(1, 1 + max(7, len(EQUATIONS))))


def test_every_reference_to_the_method_resolves():
    wrong = {relative(f): wrong_references(flowing(f, f.read_text())) for f in FILES}
    assert {f: faults for f, faults in wrong.items() if faults} == {}


def test_nothing_cites_a_text_that_is_not_in_the_repository():
    elsewhere = "design" + " §"
    assert [f for f in FILES if elsewhere in re.sub(r"\s*\n\s*#?\s*", " ", f.read_text())] == []


def test_every_section_sign_and_equation_number_in_code_is_one_of_the_methods():
    code = [f for f in FILES if f.suffix in (".py", ".yaml")]
    loose = {relative(f): loose_references(flowing(f, f.read_text())) for f in code}
    assert {f: faults for f, faults in loose.items() if faults} == {}


def test_every_file_and_command_that_is_named_exists():
    missing = {relative(f): missing_files(f.read_text()) for f in FILES}
    assert {f: names for f, names in missing.items() if names} == {}


def test_enough_is_found_to_check():
    text = " ".join(flowing(f, f.read_text()) for f in FILES if f.suffix == ".py")
    assert len(cited(text)) > 60


@pytest.mark.parametrize("path", DOCS, ids=relative)
def test_files_names_settings_and_links_in_the_docs_exist(path):
    assert missing_names(path.read_text()) == []


# Equation → function → test ------------------------------------------------------------------

ROW = r"\((\d+)\) .*?(\w+)\.(\w+)\n\s+(test_\w+\.py)::(\w+)"
TABLE = re.findall(ROW, dd2core.__doc__)


def test_the_packages_table_has_every_equation_and_is_that_of_the_method():
    assert [int(row[0]) for row in TABLE] == list(EQUATIONS)
    row = r"\| \((\d)\) \|.*\| `dd2core/(\w+)\.py::(\w+)` \| `tests/method/(\w+\.py)::(\w+)` \|"
    assert re.findall(row, METHOD) == TABLE


@pytest.mark.parametrize("number, module, function, file, test", TABLE, ids=[r[0] for r in TABLE])
def test_each_equation_has_a_function_that_cites_it_and_a_test(number, module, function, file,
                                                               test):
    doc = inspect.getdoc(getattr(importlib.import_module(f"dd2core.{module}"), function))
    assert any(int(number) in numbers for _, numbers in cited(re.sub(r"\s+", " ", doc)))
    assert test in names_of(ROOT / "tests/method" / file)


# The checks find faults ----------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "see method §11", "(method §2–12).", "(method §3, §17)", "method §4 (10)", "method §3 (4)",
    "method §4 (6)–(10)", "method §2 (3)–(4)",
])
def test_a_reference_to_nothing_is_found(text):
    assert wrong_references(text)


@pytest.mark.parametrize("text", [
    "method §2 (1)–(2)", "(method §3, §7)", "method §4 (5)–(7)); `lr`", "method §2–3"])
def test_a_good_reference_passes(text):
    assert cited(text) and wrong_references(text) == loose_references(text) == []


@pytest.mark.parametrize("text", ["as in §4", "the contract §2", "α of (10)", "floor of (0)"])
def test_a_loose_reference_is_found(text):
    assert loose_references(text)


@pytest.mark.parametrize("text", [
    "`dd2core/nothing.py`", "`dd2core/score.py::nothing`", "`tests/method/nothing/`",
    "`dd2core.score.nothing`", "`train.nothing`", "`csd.nothing=1`", "`csd.form=sid csd.alfa=1`",
    "[x](nothing.md)", "from dd2core.nothing import x", "`nothing.py`",
])
def test_a_name_of_nothing_is_found(text):
    assert missing_names(text)


@pytest.mark.parametrize("text", ["see dd2core/nothing.py.", "`docs/nothing.md`",
                                  "python -m train.nothing preset=x"])
def test_a_file_or_command_of_nothing_is_found(text):
    assert missing_files(text)


def test_wrapped_references_are_joined():
    source = '"""A (method\n§2 (10))."""\nx = 1  # as in method\n# §19\n'
    assert len(wrong_references(prose(source))) == 2
