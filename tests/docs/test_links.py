"""Every link of README and docs/ leads to a file and to a heading that are there."""

import re

import pytest

from tests.docs.reading import DOCS, PAGES, README, ROOT, anchors, broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert broken(page, page.read_text()) == []


def test_every_page_of_docs_is_linked_from_another_and_the_readme_leads_to_all():
    found, new = {README}, [README]
    while new:
        page = new.pop()
        for name in re.findall(r"\]\(([\w./-]+\.md)", page.read_text()):
            path = (page.parent / name).resolve()
            if path.is_file() and path not in found:
                found.add(path)
                new.append(path)
    assert set(DOCS) <= found


@pytest.mark.parametrize("text", [
    "[x](docs/no-page.html)", "[x](docs/method.md#nothing)", "[x](#nothing)", "![x](assets/no.png)",
    "[x](../outside.md)", '<img src="docs/figures/no.svg">'])
def test_a_link_to_nothing_is_found(text):
    assert broken(README, f"# Here\n{text}\n")


@pytest.mark.parametrize("text", [
    "[x](#here-it-is)", "[x](docs/method.md#4-the-three-losses)", "[x](https://example.org/#a)",
    "`[x](nothing.md)`", "```\n[x](nothing.md)\n```", '<img src="LICENSE">'])
def test_a_good_link_passes(text):
    assert broken(README, f"# Here: it is\n{text}\n") == []


def test_anchors_are_githubs():
    assert anchors("# A `b` & c\n## 4. The three, losses\n```\n# no\n```\n") == {
        "a-b--c", "4-the-three-losses"}


def test_the_figure_is_the_same_drawing_in_light_and_dark():
    light, dark = ((ROOT / f"docs/figures/how-it-works-{kind}.svg").read_text()
                   for kind in ("light", "dark"))
    assert light != dark
    plain = [re.sub(r"#h?[0-9a-f]{6}\b|\"h[0-9a-f]{6}\"", "", text) for text in (light, dark)]
    assert sorted(plain[0].split("<")) == sorted(plain[1].split("<"))
