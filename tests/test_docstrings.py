"""`Args` of docstrings and signatures agree. That there are docstrings: ruff's rules D."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [f for folder in ("app", "dd2core", "train") for f in sorted((ROOT / folder).rglob("*.py"))]
SECTION = re.compile(r"^Args:\n((?:[ ]{4}.*\n|\n)+)", re.M)
NAME = r"\*{0,2}\w+(?: \([^\n]+?\))?"  # a name, perhaps with its type
ENTRY = re.compile(rf"^[ ]{{4}}({NAME}(?:, {NAME})*): ", re.M)


def documented(doc: str) -> list[str]:
    """Names in the section `Args` of a docstring; several may share an entry."""
    section = SECTION.search(doc + "\n")
    entries = ENTRY.findall(section[1]) if section else []
    return [name for entry in entries
            for name in re.findall(r"(?:^|, )\*{0,2}(\w+)(?=,|$| \()", entry)]


def parameters(node: ast.FunctionDef) -> list[str]:
    """Names of a function's parameters without self and cls."""
    a = node.args
    plain = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [p.arg for p in plain if p.arg not in ("self", "cls")]


def faults(source: str) -> list[str]:
    """Parameters that `Args` names and the signature has not, or the other way round.

    A docstring without `Args` says it in prose, and one that says "Others as in" leaves some out.
    """
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            init = [n for n in node.body if getattr(n, "name", "") == "__init__"]
            if not init:
                continue
            function, doc = init[0], ast.get_docstring(node) or ""
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function, doc = node, ast.get_docstring(node) or ""
        else:
            continue
        told, has = documented(doc), parameters(function)
        wrong += [f"{node.name}: {name} is no parameter" for name in told if name not in has]
        if told and not re.search(r"^Others as in |See `[\w.]+`[;.]", doc, re.M):
            wrong += [f"{node.name}: {name} is not in Args" for name in has if name not in told]
    return wrong


def test_args_of_every_docstring_match_the_signature():
    wrong = {str(f.relative_to(ROOT)): faults(f.read_text()) for f in FILES}
    assert {f: names for f, names in wrong.items() if names} == {}


def test_many_arguments_are_documented():
    docs = [ast.get_docstring(n) or "" for f in FILES for n in ast.walk(ast.parse(f.read_text()))
            if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    assert sum(len(documented(doc)) for doc in docs) > 150


@pytest.mark.parametrize("code", [
    'def f(a, b):\n    """Do.\n\n    Args:\n        a (int): one.\n    """',
    'def f(a):\n    """Do.\n\n    Args:\n        a (int): one.\n        b: two.\n    """',
    'def f(a, *, b):\n    """Do.\n\n    Args:\n        a, c (dict[str, int]): both.\n    """',
    'class C:\n    """Be.\n\n    Args:\n        x: its.\n    """\n\n    def __init__(self, y): ...',
])
def test_a_wrong_section_is_found(code):
    assert faults(code)


@pytest.mark.parametrize("code", [
    'def f(a, *b, c=1, **d):\n    """Do.\n\n    Args:\n        a, c: two,\n            lines.\n\n'
    '        *b: more.\n        **d: named.\n\n    Returns:\n        e: six.\n    """',
    'def f(a, b):\n    """Do.\n\n    Args:\n        b: one.\n\n    Others as in `g`.\n    """',
    'def f(a):\n    """a → a."""',
])
def test_a_right_section_passes(code):
    assert faults(code) == []
