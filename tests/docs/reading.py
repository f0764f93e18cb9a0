"""Reading Markdown: pages, links, anchors, code blocks, prose."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, *(ROOT / f"{name}.md" for name in (
    "CONTRIBUTING", "SECURITY", "CODE_OF_CONDUCT", "NOTICE", "CHANGELOG"))]
FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.M | re.S)
LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks in some languages ("" is none), in their order."""
    return [m[3] for m in FENCE.finditer(text) if m[2] in languages]


def without_code(text: str) -> str:
    """Blocks, `spans`, link targets and HTML left out."""
    text = re.sub(r"`[^`]*`", "", FENCE.sub("", text))
    return re.sub(r"<[^>]*>", "", re.sub(r"\]\([^()]*\)", "]", text))


def anchors(text: str) -> set[str]:
    """What GitHub names the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).lower() for head in heads)
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in plain}


def links(text: str) -> list[str]:
    """Targets of links and pictures, code left out."""
    return [a or b for a, b in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text)))]


def broken(page: Path, text: str, root: Path = ROOT) -> list[str]:
    """The links of a page that lead nowhere within the repository: file, or heading of a page."""
    wrong = []
    for link in links(text):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        path = (page.parent / target).resolve() if target else page
        inside = path.is_relative_to(root.resolve())
        if not inside or not path.exists() or (
                anchor and anchor not in anchors(text if path == page else path.read_text())):
            wrong.append(link)
    return wrong


def made(text: str) -> str:
    """The text without what stands between the marker lines of made tables."""
    return re.sub(r"<!-- (.*?) begin -->.*?<!-- \1 end -->", "", text, flags=re.S)
