"""No number without a source: made tables are what the files give; typed ones name their source."""

import json
import re

import pytest
import yaml

from tests.docs.reading import README, ROOT, made, without_code
from train import report

EXPERIMENTS = ROOT / "docs/experiments.md"
RESULTS = [ROOT / where / name for name in ("fashion-llamagen", "fashion-var", "emoji-llamagen")
           for where in ("assets", "docs/results")]
RESULTS = [folder / "results" if folder.parent.name == "assets" else folder for folder in RESULTS]
SOURCES = {  # what README says outside of its made tables → where it is from
    "3.11": "pyproject.toml",
    "LlamaGen needs 256 sequential": "train/presets/llamagen-l.yaml",
    "VAR needs 10.": "train/presets/var-d16.yaml",
    "Distilled Decoding 2": "the name", "DD2": "the name", "NeurIPS 2025": "CITATION.cff",
    "2510.21003": "CITATION.cff",
    "22 October 2025": "git log of the authors' repository",
    "grey 28×28": "assets/fashion-var/config.json", "48×48 emoji": "assets/emoji-var/config.json",
    "one H200": "docs/results/fullsize/var-d16.json",
    "an H200": "docs/results/fullsize/kernels.json",
    "1 to 2 million parameters": "the table of models",
    "fashion 10,000)": "assets/fashion-var/results/one_step.json",
    "emoji 1,734,": "assets/emoji-var/results/one_step.json",
    "batch 1": "assets/fashion-var/results/benchmark.json",
    "256 px with 50,000 samples": "the paper, Tab. 1",
    "FID 3.40 → 5.43 for VAR-d20": "the paper, Tab. 1",
    "4.11 → 7.58": "the paper, Tab. 1",
    "Distilled Decoding 1": "the name", "DD1": "the name",
    "ratio of 20 clicks stayed within 6% of its median": "docs/app.md", ": 11%)": "docs/app.md",
    "after 0.5 s, layout shift was 0.01, Explore's slider took 0.25 s": "docs/app.md",
    "34 to 42 ms an image in two runs, 18 to 30 a second": "docs/app.md",
    "spends 8.1 ms of CPU on an image in place of 13.5, the teacher 74 in place of 115":
        "docs/app.md",
    ": 9.6 of 15.6, 21 of 29)": "docs/app.md",
    "FD was 4 and 9 times as high": "docs/results/fashion-llamagen/start-both.json",
    "time 0.83, not at 1": "train/settings/schema.py",
    "docs/reproduce-8gpu.md": "docs/reproduce-8gpu.md",
    "200 times faster": "a question", "LlamaGen-L's 256 steps": "train/presets/llamagen-l.yaml",
    ": 275 times on": "docs/results/fullsize/llamagen-l.json",
    "133 with decoding": "docs/results/fullsize/llamagen-l.json",
    "VAR-d16's 10 steps: 6.1 and 4.2": "docs/results/fullsize/var-d16.json",
}


def values(thing: object) -> list[float]:
    """All numbers in a JSON value."""
    if isinstance(thing, dict):
        return [v for part in thing.values() for v in values(part)]
    if isinstance(thing, list):
        return [v for part in thing for v in values(part)]
    number = isinstance(thing, int | float) and not isinstance(thing, bool)
    return [float(thing)] if number else []


def unsourced(text: str, sources: dict[str, str]) -> list[str]:
    """Numbers in prose that no phrase with a source covers."""
    plain = re.sub(r"\s+", " ", without_code(made(text)))
    for phrase in sorted(sources, key=len, reverse=True):
        plain = plain.replace(phrase, "¤")
    return re.findall(r".{0,20}\d.{0,20}", plain)


def test_every_made_table_is_what_the_files_give():
    for path, text in report.pages().items():
        assert path.read_text() == text, f"run: python -m train.report page=true ({path.name})"


def test_every_other_number_of_the_readme_has_a_source():
    assert unsourced(README.read_text(), SOURCES) == []


def test_no_source_is_left_over_or_gone():
    plain = re.sub(r"\s+", " ", without_code(made(README.read_text())))
    assert [phrase for phrase in SOURCES if phrase not in plain] == []
    files = [s for s in SOURCES.values() if re.fullmatch(r"[\w./-]+\.\w+", s)]
    assert len(files) > 5 and [f for f in files if not (ROOT / f).is_file()] == []


def test_a_number_without_a_source_is_found():
    assert unsourced("It is 7.3× faster.", SOURCES)
    assert unsourced("<!-- a begin -->\n| 7.3× |\n<!-- a end -->\n`7.3`", SOURCES) == []


# What was tried ------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    """The rows of the tables of docs/experiments.md that name files."""
    text = made(EXPERIMENTS.read_text())
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()
             if line.startswith("| ")]
    return [row for row in cells if len(row) == 5 and re.fullmatch(r"\d", row[4])]


def measured(names: str) -> list[dict]:
    """The files that a cell names; `…` stands for any."""
    found = []
    for name in re.findall(r"`([^`]+)`", names):
        pattern = f"{name.removesuffix('.json').replace('…', '*')}.json"
        paths = [path for folder in RESULTS for path in folder.glob(pattern)]
        assert paths, name
        found += [json.loads(path.read_text()) for path in paths]
    return found


def untold(claim: str, files: list[dict]) -> list[str]:
    """Decimals and minutes of a claim that no file rounds to."""
    known = [v for file in files for v in values(file)]
    said = re.findall(r"\d+\.\d+|\d+(?= minutes)", without_code(claim))
    return [n for n in said
            if not any(f"{v:.{len(n.partition('.')[2])}f}" == n for v in known)]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_what_was_tried_is_what_its_files_say(row):
    files = measured(row[2])
    assert untold(row[1], files) == []
    assert {f"{file['n']:,}" for file in files} >= set(re.findall(r"\d+,\d+", row[3]))


def test_rows_are_found_and_a_wrong_number_is_too():
    assert len(rows()) >= 10
    assert untold("FD 1.58 and 9.99, 16 minutes", [{"fd": 1.5804, "a": [{"m": 16.2}]}]) == ["9.99"]


# The paper's recipe ---------------------------------------------------------------------------


def test_the_table_for_eight_gpus_is_what_the_presets_have():
    text = (ROOT / "docs/reproduce-8gpu.md").read_text()
    lines = re.findall(r"^\| `([\w-]+)` \| .*? \| (\d+); (.*?) \| (\S+) / (\S+) \|", text, re.M)
    assert [line[0] for line in lines] == ["var-d16", "var-d20", "var-d24", "llamagen-l"]
    for name, steps, score, psi, g in lines:
        preset = yaml.safe_load((ROOT / f"train/presets/{name}.yaml").read_text())
        csd = preset["csd"]
        assert (float(csd["lr_guidance"]), float(csd["lr"])) == (float(psi), float(g)), name
        scales = preset["tokenizer"].get("patch_nums")
        assert int(steps) == (len(scales) if scales else 256)
        if score != "the same":
            said = [float(n) for n in re.findall(r"\d+\.?\d*", score.partition("(")[0])]
        known = csd["sampling"]
        assert said == [known[k] for k in ("cfg", "top_k", "top_p") if k in known and (
            k != "top_p" or known[k] != 1.0)], name
