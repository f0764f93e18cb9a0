"""docs/results.md: what it says is what the files say, and the committed page is the generated."""

import json

import pytest

from dd2core.errors import DD2Error
from dd2core.results.provenance import BEFORE
from tests.support.measurements import NUMBERS, named
from train.results import cost, page, rows, toy
from train.results.measured import OWN, load
from train.settings.cli import PRESETS, ROOT

KEYS = {"teacher", "one_step", "dd1", "tokenizer", "euler-score"}
JUDGE = {"fd": 1.0, "fd_percent": 1.0, "precision": 0.8, "recall": 0.6, "accuracy": 0.9,
         "extractor": "penultimate features of judge.safetensors"}


@pytest.fixture
def folders(tmp_path):
    """An empty docs/results, and two shipped models of two steps without results."""
    own, assets = tmp_path / "own", tmp_path / "assets"
    own.mkdir()
    for preset in rows.PRESETS:
        (assets / preset / "results").mkdir(parents=True)
        (assets / preset / "config.json").write_text(json.dumps(
            {"sampling": NUMBERS["teacher_settings"], "transformer": {"patch_nums": [1, 2]}}))
    return own, assets


def put(own, stem: str, preset: str = "fashion-var", judge: float | None = None, **more) -> None:
    values = named(stem, **more)
    if judge is not None:
        values["judge"] = {**JUDGE, "fd": judge}
    (own / preset).mkdir(exist_ok=True)
    (own / preset / f"{stem}.json").write_text(json.dumps(values))


def line(text: str, start: str, preset: str = "fashion-var") -> list[str]:
    """The cells of the first row that starts so, in the part of a preset."""
    part = text.split(f"**{preset}**")[1]
    found = next(x for x in part.splitlines() if x.startswith(f"| {start}"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_committed_page_is_what_the_files_give():
    assert page.PAGE.read_text() == page.page(OWN, ROOT / "assets")


def test_without_files_everything_is_not_run_and_its_command_stands_there(folders):
    text = page.page(*folders)
    assert text == page.page(*folders)
    assert text.count("| not run |") >= 2 * 15
    for table in page.all_rows("fashion-var", ([1], 2)).values():
        for row in table:
            for command in row.commands:
                assert command.replace("{p}", "fashion-var") in text
    assert "Not run: `python -m train.toy`" in text


def test_ratios_are_to_the_teacher_and_above_the_floor_by_each_extractor(folders):
    own, _ = folders
    put(own, "tokenizer", sampler="tokenizer", fd=1.0, judge=0.25)
    put(own, "teacher", sampler="teacher", fd=2.0, judge=0.5)
    put(own, "one_step", fd=3.0, judge=1.0, training_minutes=30.0, recall=0.7)
    put(own, "dd1", method="dd1", fd=6.0, judge=2.5, training_minutes=60.0)
    text = page.page(*folders)
    row = line(text, "**DD2, one step**, our")
    assert row[2:7] == ["3.00 / 1.000", "1.50 / 2.00", "2.00 / 3.00", "0.900 / 0.800",
                        "0.700 / 0.600"]
    assert row[7:10] == ["10,000", "1", "30"]
    short = [[c.strip() for c in x.strip("|").split("|")] for x in text.splitlines()
             if x.startswith("| fashion-var |")]
    assert short == [
        ["fashion-var", "classifier", "1.000", "2.000", "3.000", "1.50", "2.00", "1.00", "75%"],
        ["fashion-var", "judge", "0.250", "0.500", "1.000", "2.00", "3.00", "1.00", "75%"]]
    assert line(text.split("## Table 3")[1], "DD2 at DD1")[2:4] == ["30", "2.0×"]


def test_dd2_is_compared_with_a_dd1_of_its_own_machine(folders):
    """The row's where there is one, else one that the model folder has and the row no more."""
    own, assets = folders
    shipped = assets / "fashion-var/results"
    put(own, "one_step", fd=3.0, training_minutes=30.0)
    put(own, "dd1", method="dd1", fd=6.0, training_minutes=50.0, trained_on="a phone")
    text = page.page(*folders)
    assert line(text.split("## Table 3")[1], "DD2 at DD1")[2:4] == ["not run", "–"]
    before = named("dd1-before", method="dd1", fd=5.0, training_minutes=60.0)
    (shipped / "dd1-before.json").write_text(json.dumps(before))
    text = page.page(*folders).split("## Table 3")[1]
    assert line(text, "DD2 at DD1")[2:4] == ["30, DD1 there 60", "2.0×"]
    assert line(text, "DD1 ")[2:4] == ["50 (a phone)", "1.0×"]


def test_repetitions_are_shown_as_mean_and_range(folders):
    own, _ = folders
    put(own, "teacher", sampler="teacher", fd=2.0)
    for stem, fd in (("one_step", 3.0), ("one_step-s1", 4.0), ("one_step-s2", 5.0)):
        put(own, stem, fd=fd, command=f"evaluate {stem}")
    text = page.page(*folders)
    row = line(text, "**DD2, one step**, our")
    assert row[2].startswith("4.00 (3.00–5.00)") and row[3].startswith("2.00 (1.50–2.50)")
    assert row[8] == "3" and f"evaluate one_step  # {BEFORE}\nevaluate one_step-s1" in text


def test_what_was_chosen_by_is_no_row_and_nothing_is_lost(folders):
    own, assets = folders
    put(own, "one_step", fd=3.0, split="validation")
    put(own, "guess-s1", fd=7.0)
    measured = load("fashion-var", KEYS, own, assets)
    assert measured.rows == {} and [m.tag for m in measured.other] == ["guess-s1", "one_step"]
    text = page.page(*folders)
    assert line(text, "**DD2, one step**, our")[2] == "not run"
    assert "| one_step | one_step | validation | 3.00 / – |" in text
    assert "| guess-s1 | one_step | test | 7.00 / – |" in text


def test_dd1_in_two_steps_has_its_row_and_is_not_dd1_in_one(folders):
    own, assets = folders
    put(own, "teacher", sampler="teacher", fd=2.0)
    put(own, "dd1-two-steps", sampler="dd1_two_steps", passes=2, fd=5.0)
    shipped = assets / "fashion-var" / "results" / "two.json"
    shipped.write_text(json.dumps(named("two", sampler="dd1_two_steps", fd=9.0)))
    text = page.page(*folders)
    assert line(text, "DD1, two steps")[2:4] == ["5.00 / –", "2.50 / –"]
    assert line(text, "DD1, one step")[2] == "not run"


def test_a_sampler_that_nobody_knows_is_shown_by_its_name(folders):
    own, assets = folders
    put(own, "novel", sampler="novel", method="novel", fd=3.25)
    shipped = assets / "fashion-var" / "results" / "strange.json"
    shipped.write_text(json.dumps(named("strange", sampler="strange", fd=9.5)))
    text = page.page(*folders)
    assert "| novel | novel | test | 3.25 / – |" in text and "| strange | 1 | 9.50 |" in text


def test_a_file_of_its_own_stands_in_the_place_of_the_shipped_one(folders):
    own, assets = folders
    shipped = assets / "fashion-var" / "results" / "one_step.json"
    shipped.write_text(json.dumps(named("one_step", fd=9.0)))
    assert load("fashion-var", KEYS, own, assets).rows["one_step"][0].fd == 9.0
    put(own, "one_step", fd=3.0)
    assert [m.fd for m in load("fashion-var", KEYS, own, assets).rows["one_step"]] == [3.0]


def test_shipped_results_fill_their_rows():
    measured = load("fashion-llamagen", KEYS)
    assert {"teacher", "one_step", "dd1", "tokenizer", "parallel", "refine-40"} <= set(
        measured.rows)
    assert [len(measured.rows[key]) for key in ("teacher", "dd1")] == [1, 1]


@pytest.mark.parametrize("missing", ["judge", "teacher", "tokenizer"])
def test_a_part_that_is_missing_leaves_a_dash(folders, missing):
    own, _ = folders
    for stem, fd in (("tokenizer", 1.0), ("teacher", 2.0), ("one_step", 3.0)):
        if stem != missing:
            put(own, stem, sampler=stem, fd=fd, judge=None if missing == "judge" else fd)
    row = line(page.page(*folders), "**DD2, one step**, our")
    assert row[2:5] == {
        "judge": ["3.00 / –", "1.50 / –", "2.00 / –"],
        "teacher": ["3.00 / 3.000", "–", "–"],
        "tokenizer": ["3.00 / 3.000", "1.50 / 1.50", "–"]}[missing]


def test_path_length_and_neighbours_have_their_tables(folders):
    own, _ = folders
    length = {"n": 2000, "epsilon": 0.01, "filtered": 1234.0, "all": 2345.0, "changed": 0.5,
              "judge_filtered": 10.0, "judge_all": 20.0}
    near = {"n": 500, "held": 500, "train": 60_000, "quantile": 0.05, "threshold": 1.0,
            "share": 0.125, "median": 2.0, "held_median": 2.5}
    put(own, "ppl-one_step", path_length=length)
    put(own, "neighbours-one_step", neighbours=near)
    text = page.page(*folders)
    row = line(text.split("## Table 5")[1], "DD2")
    assert row[2:6] == ["1,234 / 10", "2,345 / 20", "0.50", "2,000"]
    row = line(text.split("## Nearest")[1], "DD2, one step")
    assert row[1:7] == ["0.125", "0.05", "2.000", "2.500", "500", "60,000"]


def test_commands_name_presets_that_exist_or_are_on_their_way():
    for preset in rows.PRESETS:
        assert (PRESETS / f"{preset}.yaml").is_file()
        assert set(cost.PAPER[preset]) >= {"DD1", "DD2"}


@pytest.mark.parametrize("text", ["{}", '{"toys": {"a": [{}]}}', '{"toys": 3}'])
def test_a_damaged_toy_is_one_sentence(text, tmp_path):
    (tmp_path / "toy.json").write_text(text)
    with pytest.raises(DD2Error, match=r"toy\.json is not what train\.toy writes: run it again\.$"):
        toy.table(tmp_path / "toy.json")
