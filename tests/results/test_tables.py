"""The tables are what the files say."""

import json

import pytest

from dd2core.errors import DD2Error
from dd2core.results import tables
from dd2core.results.collection import load_results
from dd2core.results.training import read_log, training_table
from tests.support.measurements import INCEPTION, SPEED, named, unnamed, write


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, named("one_step", fd=4.0, method="one_step"))
    write(tmp_path, teacher("preset", 2.0, 1.25))
    write(tmp_path, teacher("strong", 3.0, 2.0))
    return tmp_path


def teacher(tag: str, fd: float, cfg: float, **filters) -> dict:
    settings = {"cfg": cfg, "temperature": 1.0, "top_k": 0, "top_p": 1.0, **filters}
    return named(tag, "guidance", sampler="teacher", note=f"guidance {cfg:g}", fd=fd, passes=49,
                 teacher_settings=settings)


def add_refined(folder) -> None:
    for start, fd in ((45, 3.5), (9, 2.5)):
        write(folder, named(f"from-{start}", "refine", sampler="refine", fd=fd, passes=50 - start,
                            start=start, note=f"from step {start}"))


def load(folder):
    return load_results(folder / "results")


def cells(table: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]


def first_cells(table: str) -> list[str]:
    return [row[0] for row in cells(table)[2:]]


def test_quality_has_the_teacher_under_the_models_own_settings_alone(folder):
    write(folder, named("p", method="parallel", sampler="parallel"))
    write(folder, named("early", "tried"))
    write(folder, teacher("filtered", 1.0, 1.25, top_k=5))
    add_refined(folder)
    assert first_cells(tables.quality_table(load(folder))) == [
        "AR teacher (guidance 1.25)", "**DD2, one step**", "parallel sampling, no distillation"]
    assert first_cells(tables.guidance_table(load(folder))) == ["1.25", "1.25", "2"]
    assert first_cells(tables.tried_table(load(folder))) == [""]  # it has no note


def test_without_measurements_there_are_no_tables(tmp_path):
    (tmp_path / "config.json").write_text('{"sampling": {"cfg": 1.25}}')
    results = load(tmp_path)
    made = [getattr(tables, f"{name}_table")(results)
            for name in ("quality", "guidance", "refine", "tried", "speed")]
    assert made == [""] * 5 and training_table(tmp_path / "logs") == ""


def test_measured_by_inception_it_is_headed_fid(tmp_path):
    write(tmp_path, named("one_step", precision=None, recall=None, **INCEPTION))
    head, _, row = cells(tables.quality_table(load(tmp_path)))
    assert head[2:4] == ["FID ↓", "IS ↑"] and "accuracy ↑" not in head
    assert row[3] == "40.0" and row[head.index("recall ↑")] == "–"
    write(tmp_path, named("dd1", method="dd1"))
    head, _, one, dd1 = cells(tables.quality_table(load(tmp_path)))
    assert head[2:4] == ["FD ↓", "IS ↑"] and "accuracy ↑" in head
    assert one[head.index("accuracy ↑")] == dd1[head.index("IS ↑")] == "–"


def test_few_steps_stand_between_one_step_and_the_presets_teacher(folder):
    assert tables.refine_table(load(folder)) == ""  # nothing between the two was measured
    add_refined(folder)
    head, _, *rows = cells(tables.refine_table(load(folder)))
    assert head[:3] == ["sampler", "passes", "FD"] and "one image" not in head
    assert [row[:3] for row in rows] == [
        ["one step alone", "1", "4.00"], ["teacher from step 45 on", "5", "3.50"],
        ["teacher from step 9 on", "41", "2.50"], ["teacher alone", "49", "2.00"]]


def test_times_of_few_steps_are_the_benchmarks_of_one_image(folder):
    add_refined(folder)
    ms = {"teacher": 90.0, "one_step": 5.0, "decode": 10.0, "refine_45": 15.0}
    [one] = SPEED["rows"]
    rows = [{**one, "batch": 8, "ms": {k: 8 * v for k, v in ms.items()}}, {**one, "ms": ms}]
    (folder / "results" / "benchmark.json").write_text(json.dumps({**SPEED, "rows": rows}))
    _, _, *rows = cells(tables.refine_table(load(folder)))
    assert [row[-2:] for row in rows] == [
        ["5.0 ms", "6.7×"], ["15.0 ms", "4.0×"], ["–", "–"], ["90.0 ms", "1.0×"]]


def test_speed_says_on_what_it_was_taken(folder):
    [one] = SPEED["rows"]
    row = {**one, "threads": {"teacher": 2}}
    (folder / "results" / "benchmark.json").write_text(json.dumps({**SPEED, "rows": [row]}))
    lines = tables.speed_table(load(folder)).splitlines()
    assert lines[2] == "| 1 | 90.0 ms (2) | – | 5.0 ms | 10.0 ms | 6.7× | 18.0× |"
    assert "CPU, torch 2, float32; medians of 3 rounds" in lines[-1]
    assert "teacher 3 MFLOP in 49 passes, one step 2 MFLOP" in lines[-1]


def test_commands_are_of_the_tables_named_once_each(folder):
    write(folder, named("early", "tried", command="try"))
    write(folder, named("p", method="parallel", sampler="parallel", command="p"))
    (folder / "results" / "benchmark.json").write_text(json.dumps(SPEED))
    results = load(folder)
    assert tables.commands(results, "tried").splitlines() == ["```", "try", "```"]
    assert tables.commands(results, "quality", "guidance", "speed").splitlines() == [
        "```", "python -m train.evaluate", "p", "python -m train.benchmark", "```"]


def test_measurements_are_ordered_by_method_and_refine_by_passes(tmp_path):
    for stem, more in (("refine-8", {"sampler": "refine", "start": 8}), ("tokenizer", {}),
                       ("one_step", {}), ("refine-45", {"sampler": "refine", "start": 45}),
                       ("teacher-cfg1.25", {}), ("other", {}), ("try-x", {})):
        write(tmp_path, unnamed(**more), stem)
    assert [m.tag for m in load(tmp_path).measurements] == [
        "teacher-cfg1.25", "one_step", "refine-45", "refine-8", "tokenizer", "other", "try-x"]


def test_a_damaged_file_stops_the_tables_unless_they_only_show_what_is_there(folder):
    (folder / "results" / "half.json").write_text('{"fd": 1.0')
    with pytest.raises(DD2Error, match="half.json"):
        load(folder)
    kept = load_results(folder / "results", skip_damaged=True)
    assert [m.tag for m in kept.measurements] == ["preset", "strong", "one_step"]


@pytest.mark.parametrize("text", ["{}", '{"sampling": {"cfg": "x"}}', '{"sampling": {"top_p": 2}}'])
def test_a_model_without_whole_sampling_settings_is_one_sentence(text, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(DD2Error, match=r"config\.json has no whole settings of the teacher \("):
        load(folder)


def test_pictures_are_found_by_tag(folder):
    results = load(folder)
    preset, strong, one = results.measurements
    assert results.picture(preset) is None
    for name in ("teacher", "one_step"):
        (folder / "results" / f"{name}.png").write_bytes(b"")
    assert results.picture(preset).name == "teacher.png"  # drawn without a tag
    assert results.picture(strong) is None and results.picture(one).name == "one_step.png"
    (folder / "results" / "preset.png").write_bytes(b"")
    assert results.picture(preset).name == "preset.png"


# What training took -----------------------------------------------------------------------------

def test_minutes_of_training_are_those_of_the_logs_and_of_the_pairs(tmp_path):
    line = '{"step": %d, "images": 2000, "seconds": %f}\n'
    (tmp_path / "csd.jsonl").write_text(line % (1, 60) + line % (1500, 600) + '{"step": 16')
    (tmp_path / "warm.jsonl").write_text(line % (100, 60))
    (tmp_path / "warm.json").write_text('{"pair_seconds": 120}')
    (tmp_path / "other.jsonl").write_text(line % (1, 6000))
    assert training_table(tmp_path).splitlines()[2:] == [
        "| warm | 100 | 2,000 | 3 |", "| csd | 1,500 | 2,000 | 10 |", "| all | | | 13 |"]
    assert [row["step"] for row in read_log(tmp_path / "csd.jsonl")] == [1, 1500]


def test_minutes_of_two_machines_are_told_apart_and_make_no_sum(tmp_path):
    line = '{"step": 100, "images": 2000, "seconds": 60}\n'
    for stage in ("warm", "csd"):
        (tmp_path / f"{stage}.jsonl").write_text(line)
    (tmp_path / "csd.json").write_text('{"trained_on": "A GPU"}')
    assert training_table(tmp_path).splitlines()[2:] == [
        "| warm | 100 | 2,000 | 1 | two CPU cores |", "| csd | 100 | 2,000 | 1 | A GPU |"]


@pytest.mark.parametrize("text", ["", '{"step": 1}', '{"step": 1, "images": 2, "seconds": "x"}'])
def test_a_damaged_log_is_one_sentence(text, tmp_path):
    (tmp_path / "gts.jsonl").write_text(text)
    with pytest.raises(DD2Error, match=r"gts\.jsonl is no log of a stage: copy it again\.$"):
        training_table(tmp_path)
