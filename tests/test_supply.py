"""Where the software comes from: bounds, the lock file, CI's actions, what is installed."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = ("requirements.txt", "requirements-dev.txt")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def wanted(text: str) -> list[Requirement]:
    """The requirements of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def unbounded(text: str) -> list[str]:
    """Requirements without a lower or an upper bound."""
    bounds = {r.name: {s.operator for s in r.specifier} for r in wanted(text)}
    return [name for name, ops in bounds.items() if not ops >= {">=", "<"}]


def locked(text: str) -> dict[str, str]:
    """Package → version of a lock file, in which nothing but versions and hashes may stand.

    Raises:
        ValueError: shows what else stands there.
    """
    body = "".join(line + "\n" for line in text.splitlines() if not line.startswith("#"))
    entry = r"([a-z0-9-]+)==([\w.+!]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
    rest = re.sub(entry, "", body)
    if rest:
        raise ValueError(rest[:200])
    return {name: version for name, version, _ in re.findall(entry, body)}


def loose(workflow: str) -> list[str]:
    """Actions that are not pinned by their commit, with the version as a comment."""
    lines = (line.strip().removeprefix("- ") for line in workflow.splitlines())
    return [u for u in lines if u.startswith("uses:") and not PINNED.fullmatch(u)]


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_has_bounds(name):
    assert unbounded((ROOT / name).read_text()) == []


def test_the_lock_holds_every_requirement_in_its_range_with_hashes():
    versions = locked((ROOT / "requirements.lock").read_text())
    for requirement in [r for name in FILES for r in wanted((ROOT / name).read_text())]:
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_ranges_admit_the_python_and_torch_that_ci_runs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    torch = next(r for r in wanted((ROOT / FILES[0]).read_text()) if r.name == "torch")
    rows = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    rows = rows["jobs"]["test"]["strategy"]["matrix"]["include"]
    oldest = min(rows, key=lambda r: int(r["python"].partition(".")[2]))["python"]
    assert project["requires-python"] == f">={oldest}"
    pins = {r["torch"].removesuffix(".*") for r in rows} - {""}
    assert {s.version for s in torch.specifier if s.operator == ">="} == pins


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_actions_are_pinned_by_commit(path):
    text = path.read_text()
    assert "uses:" in text and loose(text) == []
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


def test_type_information_is_shipped():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "py.typed" in data["package-data"]["dd2core"]
    assert (ROOT / "dd2core/py.typed").is_file()


@pytest.mark.parametrize("line", ["a", "a>=1", "a<2", "a==1"])
def test_a_missing_bound_is_found(line):
    assert unbounded(f"# all\n{line}\n") == ["a"]


HASH = " \\\n    --hash=sha256:" + 64 * "0"


@pytest.mark.parametrize("text", [
    "a==1\n", f"a>=1{HASH}\n", f"--index-url https://x{HASH}\n", f"--find-links /x\na==1{HASH}\n",
    f"a @ file:///x{HASH}\n", f"a==1{HASH}\n    # via b\n"])
def test_a_lock_with_anything_else_is_refused(text):
    with pytest.raises(ValueError):
        locked(text)


@pytest.mark.parametrize("line", ["uses: a/b@v4", "uses: a/b@main", f"uses: a/b@{40 * 'a'}",
                                  f"uses: a/b@{39 * 'a'} # v1.2.3", f"uses: a/b@{40 * 'a'} # v1"])
def test_a_loose_action_is_found(line):
    assert loose(f"steps:\n  - {line}\n") and not loose(f"  - uses: a/b@{40 * 'a'} # v1.2.3\n")
