"""README is short and in its order; each page says what it is for and what is missing; one word
for one thing."""

import re

import pytest

from tests.docs.reading import DOCS, README, without_code

TEXT = README.read_text()
HEADINGS = ["Install", "Try", "Models", "Results", "How it works", "Distil",
            "Differences from the paper", "Limits and questions", "Layout", "Cite"]
NAMES = {"method", "results", "experiments", "pictures", "own-teacher", "official",
         "reproduce-8gpu", "evaluation", "app", "space", "troubleshooting", "reliability",
         "extending", "cluster"}
LONG = {  # abbreviation → what has to stand before or right after where it is first used
    "AR": "autoregressive", "GTS": "ground-truth score", "CSD": "conditional score distillation",
    "DD1": "distilled decoding 1", "FD": "fréchet distance", "FID": "fréchet inception distance",
    "NLL": "negative log-likelihood", "FCS": "fake conditional score"}


def unexplained(text: str) -> list[str]:
    """Abbreviations that are used before they are spelled out; 80 characters later will do."""
    plain = re.sub(r"\s+", " ", without_code(text))
    wrong = []
    for short, long in LONG.items():
        first = re.search(rf"\b{short}\b", plain)
        if first and long not in plain[:first.end() + 80].lower():
            wrong.append(short)
    return wrong


def test_the_readme_is_read_in_three_minutes():
    assert TEXT.count("\n") <= 150, "the front page grew: move something into docs/"
    assert re.findall(r"^## (.*)$", TEXT, re.M) == HEADINGS


def test_the_first_screen_says_what_was_measured_and_what_was_not():
    top = TEXT.split("## Install")[0]
    for words in ("![", "arxiv.org", "independent implementation", "Fashion-MNIST", "| measured |",
                  "| tested on tiny models only |", "| never run |", "no code"):
        assert words in top
    assert top.index("![The teacher") < top.index("independent")


def test_all_pages_are_there():
    assert {page.stem for page in DOCS} >= NAMES


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_starts_with_what_it_is_for_and_ends_with_what_is_missing(page):
    text = page.read_text()
    assert text.split("\n")[2].startswith("What this page is for: ")
    *_, last = re.findall(r"^## (.*)$", text, re.M)
    assert last == "What is missing"
    assert len(text.split("## What is missing")[1].strip()) > 40


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_one_word_for_one_thing(page):
    others = r".{0,30}\b(?:paint(?:s|ed|ing)?|students?|fake score|score network|critic)\b"
    assert re.findall(others, without_code(page.read_text())) == []


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_abbreviations_are_spelled_out_where_they_are_first_used(page):
    assert unexplained(page.read_text()) == []


def test_an_abbreviation_without_its_words_is_found():
    assert unexplained("It has an FD of 2 to the test set.") == ["FD"]
    assert unexplained("FD (Fréchet distance) is 2.") == unexplained("`FD` of `GTS`") == []
