"""Addresses, citation, templates: one address everywhere, all fields that readers look for."""

import re
import tomllib

import pytest
import yaml

from dd2core import __version__
from tests.docs.reading import README, ROOT
from train.publish.repository import repository

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_repositorys_address_is_one_everywhere():
    address = PROJECT["urls"]["Repository"]
    assert repository() == address == CITATION["repository-code"]
    texts = {path.name: path.read_text() for path in (README, ROOT / "CITATION.cff",
                                                      ROOT / "pyproject.toml")}
    own = re.compile(r"https://github\.com/[\w.-]+/dd2(?![\w-])")
    for name, text in texts.items():
        assert set(own.findall(text)) == {address}, name
    assert f"git clone {address}" in texts["README.md"]


def test_the_citation_has_version_date_repository_and_paper():
    assert CITATION["version"] == PROJECT["version"] == __version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(CITATION["date-released"]))
    paper = CITATION["preferred-citation"]
    assert len(paper["authors"]) == 7 and "arXiv:2510.21003" in str(paper["identifiers"])
    bibtex = README.read_text().split("```bibtex")[1]
    for person in paper["authors"]:
        assert f"{person['family-names']}, {person['given-names']}" in bibtex
    assert f"version = {{{__version__}}}" in bibtex


def test_the_project_is_found_by_what_it_is():
    assert {"Repository", "Issues", "Changelog", "Paper"} <= set(PROJECT["urls"])
    kinds = PROJECT["classifiers"]
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {lowest}" in kinds
    assert not any(kind.startswith("License ::") for kind in kinds)  # `license` says it (PEP 639)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")),
                         ids=lambda path: path.name)
def test_an_issue_form_is_one_that_github_reads(path):
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert set(form) <= {"blank_issues_enabled", "contact_links"}
        return
    assert {"name", "description", "body"} <= set(form)
    for part in form["body"]:
        assert part["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert part["type"] == "markdown" or {"label"} <= set(part["attributes"])
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) and ids


def test_there_is_a_template_for_changes_and_a_code_of_conduct():
    assert "- [ ]" in (ROOT / ".github/PULL_REQUEST_TEMPLATE.md").read_text()
    assert "report" in (ROOT / "CODE_OF_CONDUCT.md").read_text().lower()
