"""The code of README and docs/ can be run: commands exist and take their settings, Python runs."""

import ast
import functools
import importlib
import re
import shlex

import pytest

from dd2core.errors import DD2Error
from tests.docs.reading import DOCS, README, ROOT, blocks
from train.settings.cli import load_config, load_settings

PLACES = {"NAME": "fashion-llamagen", "PRESET": "fashion-llamagen"}  # that stand for one's own
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
NAMES = re.compile(r"^(tag|results|weights|out|base|source|model|reference|data|name)=.*")
FREE = {"app.space": {"out", "model", "check", "static"},
        "app.static_page.assemble": {"out", "models"}}


def commands(text: str) -> list[list[str]]:
    """The words of each command that runs something of this repository."""
    found = []
    code = "\n".join([*blocks(text, "", "bash"), *re.findall(r"`(python -m [^`]+)`", text)])
    for line in code.replace("\\\n", " ").splitlines():
        line = re.sub(r"\s#.*", "", line.strip())
        if "python -m" in line or re.search(r"torchrun .*-m", line) or line.startswith("make "):
            try:
                words = shlex.split(line)
            except ValueError:
                words = [line]
            found.append(words)
    return found


@functools.cache
def main_of(module: str) -> dict[str, str]:
    """The arguments of the call `main(run, …)` at the end of a command of train."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    [call] = [n for n in ast.walk(tree) if isinstance(n, ast.Call)
              and getattr(n.func, "id", getattr(n.func, "attr", "")) == "main" and n.args
              and getattr(n.args[0], "id", "") == "run"]
    named = {k.arg: ast.unparse(k.value) for k in call.keywords}
    return named | ({"flat": ast.literal_eval(call.args[1])} if len(call.args) > 1 else {})


def fault(words: list[str]) -> str | None:
    """Why a command cannot be run as it stands; None if it can."""
    if words[0] == "make":
        wrong = [w for w in words[1:] if "=" not in w and w not in TARGETS]
        return f"no target {wrong[0]}" if wrong else None
    if "-m" not in words:
        return None
    at = words.index("-m")
    module, rest = words[at + 1], [w for w in words[at + 2:] if w not in ("…", "&")]
    if module.split(".")[0] not in ("train", "app", "tests") or re.search(r"\.[A-Z]+$|…$", module):
        return None
    path = ROOT / module.replace(".", "/")
    if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
        return f"no module {module}"
    rest = [w for w in rest if w not in ("--help", "…,") and not w.startswith("[")]
    if module in FREE:
        wrong = [w for w in rest if w.partition("=")[0] not in FREE[module]]
        return f"no setting {wrong[0]}" if wrong else None
    if not module.startswith("train."):
        return None
    rest = [re.sub(r"=(NAME|PRESET)\b", lambda m: f"={PLACES[m[1]]}", w) for w in rest]
    rest = [w for w in rest if not w.endswith("=…")]
    alike = (re.sub(r"(?<![\w.])\d+(?![\w.])", "8", w) for w in rest)
    return refused(module, tuple(sorted(NAMES.sub(r"\1=x", w) for w in alike)))


@functools.cache
def refused(module: str, words: tuple[str, ...]) -> str | None:
    """What a command of train says to its settings; None if it takes them. Whole numbers, and
    names of files that any text may be, are alike for all commands: pages have hundreds."""
    how = main_of(module)
    try:
        if "kind" in how:
            load_settings(getattr(importlib.import_module(module), how["kind"]), list(words))
        else:
            load_config(list(words), how.get("flat"))
    except DD2Error as error:
        return str(error)
    return None


@pytest.mark.parametrize("page", [README, *DOCS, ROOT / "CONTRIBUTING.md"],
                         ids=lambda page: page.name)
def test_every_command_exists_and_takes_its_settings(page):
    faults = {" ".join(words): fault(words) for words in commands(page.read_text())}
    assert {words: why for words, why in faults.items() if why} == {}


@pytest.mark.parametrize("line", [
    "python -m train." "nothing", "python -m train.csd csd.nothing=1", "make nothing",
    "python -m train.csd preset=nothing", "python -m app.space ouf=x", "python -m train.toy sed=1",
    "torchrun --nproc-per-node=8 -m train.csd csd.steps=many"])
def test_a_command_that_cannot_be_run_is_found(line):
    assert [fault(words) for words in commands(f"```bash\n{line}\n```")] != [None]


def test_commands_are_found():
    assert sum(len(commands(page.read_text())) for page in [README, *DOCS]) > 60


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_python_compiles(page):
    for code in blocks(page.read_text(), "python"):
        compile(code, page.name, "exec")


def test_the_readmes_python_runs_and_is_seven_lines(capsys):
    [code] = blocks(README.read_text(), "python")
    assert len(code.strip().splitlines()) <= 7
    exec(code, {"__name__": "readme"})
    ratio, *shape = capsys.readouterr().out.split(" ", 1)
    assert float(ratio) > 1 and shape == ["(3, 48, 48, 3)\n"]


def test_the_skeleton_of_an_own_teacher_is_distilled():
    names = {"__name__": "own"}
    for code in blocks((ROOT / "docs/own-teacher.md").read_text(), "python"):
        exec(code, names)
    assert names["shares"]["teacher, 3 passes"] > 0.9
    assert names["shares"]["generator, 1 pass"] > 0.8


def test_the_pages_client_asks_for_what_the_page_has():
    [code] = blocks((ROOT / "docs/app.md").read_text(), "python")
    served = (ROOT / "app/page.py").read_text()
    names = re.findall(r'api_name="/(\w+)"', code)
    assert len(names) == 3 and all(f'api_name="{name}"' in served for name in names)


def test_the_pages_commands_print_their_settings(monkeypatch, capsys):
    from app import main, space
    from app.static_page import assemble

    monkeypatch.setattr("sys.argv", ["app.py", "--help"])
    main.main()
    for variable in re.findall(r"`([A-Z]+_[A-Z_0-9]+)`", (ROOT / "docs/app.md").read_text()):
        assert variable in capsys.readouterr().out
        main.main()
    for module, name in ((space, "app.space"), (assemble, "app.static_page.assemble")):
        capsys.readouterr()
        module.main(["--help"])
        text = capsys.readouterr().out
        assert all(f"\n  {key}=" in text for key in FREE[name])
