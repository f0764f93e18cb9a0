"""The tables are what the files say."""

import json
from pathlib import Path

import pytest

from dd2core.results import tables


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (tmp_path / "config.json").write_text('{"sampling": {"cfg": 1.25}}')
    evaluation(folder, "one_step", "one_step", fd=4.0, passes=1)
    evaluation(folder, "teacher-cfg1.25", "teacher", fd=2.0, passes=49)
    evaluation(folder, "teacher-cfg2.0", "teacher", fd=3.0, passes=49, cfg=2.0)
    return folder


def evaluation(folder: Path, stem: str, sampler: str, fd: float, passes: int, cfg=1.25, **more):
    numbers = {"sampler": sampler, "fd": fd, "passes": passes, "accuracy": 0.9, "recall": 0.7,
               "n": 10_000, "teacher_settings": {"cfg": cfg}, **more}
    (folder / f"{stem}.json").write_text(json.dumps(numbers))


def refined(folder: Path) -> None:
    evaluation(folder, "refine-45", "refine", fd=3.5, passes=5, start=45)
    evaluation(folder, "refine-9", "refine", fd=2.5, passes=41, start=9)


def cells(table: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]


def test_few_steps_stand_between_one_step_and_the_presets_teacher(results):
    assert tables.refine_table(results) == ""  # nothing between the two was measured
    refined(results)
    head, _, *rows = cells(tables.refine_table(results))
    assert head[:3] == ["sampler", "passes", "FD"] and "one image" not in head
    assert [row[:3] for row in rows] == [
        ["one step alone", "1", "4.00"], ["teacher from step 45 on", "5", "3.50"],
        ["teacher from step 9 on", "41", "2.50"], ["teacher alone", "49", "2.00"]]


def test_times_of_few_steps_are_the_benchmarks_of_one_image(results):
    refined(results)
    ms = {"teacher": 90.0, "one_step": 5.0, "decode": 10.0, "refine_45": 15.0}
    other = {name: 8 * value for name, value in ms.items()}
    (results / "benchmark.json").write_text(json.dumps(
        {"rows": [{"batch": 8, "ms": other}, {"batch": 1, "ms": ms}]}))
    _, _, *rows = cells(tables.refine_table(results))
    assert [row[-2:] for row in rows] == [
        ["5.0 ms", "6.7×"], ["15.0 ms", "4.0×"], ["–", "–"], ["90.0 ms", "1.0×"]]


def test_results_are_ordered_by_kind_and_refine_by_passes():
    stems = ["refine-8", "tokenizer", "one_step", "refine-45", "teacher-cfg1.25", "other"]
    in_order = sorted((Path(f"{stem}.png") for stem in stems), key=tables.order)
    assert [path.stem for path in in_order] == [
        "teacher-cfg1.25", "one_step", "refine-45", "refine-8", "tokenizer", "other"]


@pytest.mark.parametrize(("stem", "name"), [
    ("one_step", "**DD2, one step**"), ("teacher-cfg1.25", "AR teacher (guidance 1.25)"),
    ("refine-45", "one step, then the teacher (from step 45)"),
    ("dd1-lr1e-3", "DD1, one step (rate 1e-3)"), ("unknown", "unknown"),
])
def test_a_result_is_called_by_what_it_is(stem, name):
    assert tables.title(stem) == name
