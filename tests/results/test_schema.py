"""Measurements: what is written is read, what is damaged is refused, older files are understood."""

import dataclasses
import json
from pathlib import Path

import pytest

from dd2core.errors import DD2Error
from dd2core.results.record import from_json, to_json
from dd2core.results.schema import Measurement, read
from dd2core.results.speed import Speed, read_speed
from dd2core.sampling import Sampling
from tests.support.measurements import INCEPTION, SPEED, named, unnamed, write

ASSETS = Path(__file__).parents[2] / "assets"
SHIPPED = sorted(p for p in ASSETS.glob("*/results/*.json") if p.name != "benchmark.json")


# Round trips ------------------------------------------------------------------------------------

@pytest.mark.parametrize("values", [
    named("one_step"), named("x", "refine", sampler="refine", start=3, note="from step 3"),
    named("y", "guidance", sampler="teacher", fcs_floor=1.5, seconds=2.0, decode_seconds=1.0),
    named("z", precision=None, recall=None, training_minutes=3.5, **INCEPTION),
    named("j", judge={"fd": 1.0, "fd_percent": 1.0, "precision": 0.5, "recall": 0.5,
                      "accuracy": 0.9, "extractor": "e"}, split="validation"),
    named("p", path_length={"n": 5, "epsilon": 0.01, "filtered": 2.0, "all": 3.0, "changed": 0.5,
                            "judge_filtered": None, "judge_all": None},
          neighbours={"n": 5, "held": 5, "train": 9, "quantile": 0.05, "threshold": 1.0,
                      "share": 0.2, "median": 2.0, "held_median": 2.0}),
])
def test_what_is_written_is_read(values, tmp_path):
    m = from_json(Measurement, values)
    assert to_json(m) == values
    assert read(write(tmp_path, to_json(m))) == m
    assert isinstance(m.teacher_settings, Sampling)


def test_every_field_survives_and_absent_ones_stay_absent():
    values = named("one_step")
    m = dataclasses.replace(from_json(Measurement, values), seconds=1.0, note="n", fcs_floor=0.5)
    text = to_json(m)
    assert text["seconds"] == 1.0 and text["note"] == "n" and text["fcs_floor"] == 0.5
    assert "inception_score" not in text and "start" not in text
    assert text["training_minutes"] is None  # it may be unknown, and that is said


def test_the_name_of_a_new_file_says_nothing(tmp_path):
    path = write(tmp_path, named("one_step", method="dd1", note="rate 3"), "teacher-cfg9")
    m = read(path)
    assert (m.method, m.note, m.table, m.tag) == ("dd1", "rate 3", "quality", "one_step")
    assert m.title == "DD1, one step (rate 3)"
    m = read(write(tmp_path, named("two", sampler="dd1_two_steps", passes=2)))
    assert m.title == "DD1, two steps"


# Damaged and foreign files ----------------------------------------------------------------------

def without(key: str) -> dict:
    return {k: v for k, v in named("x").items() if k != key}


DAMAGED = [
    (named("x", split="third"), "split=third"),
    (named("x", judge={"fd": 1.0}), "judge: missing: accuracy, extractor"),
    (named("x", path_length={"n": 5, "epsilon": 0.01, "filtered": 2.0, "all": 3.0, "changed": 2.0}),
     "path_length: changed=2.0"),
    (without("fd"), "missing: fd"), (without("teacher_settings"), "missing: teacher_settings"),
    (named("x", precison=0.5, recal=1), "unknown: precison, recal"),
    (named("x", fd="1.0"), "fd='1.0'"), (named("x", n=10.5), r"n=10\.5"),
    (without("method"), "missing: method"), (named("x", fd=True), "fd=True"),
    (named("x", n=True), "n=True"), (named("x", estimate=1), "estimate=1"),
    (named("x", recall=1.5), r"recall=1\.5"),
    (named("x", accuracy=-0.1), r"accuracy=-0\.1"), (named("x", n=0), "n=0"),
    (named("x", passes=-1), "passes=-1"), (named("x", "speed"), "table=speed"),
    (named("x", teacher_settings={"cfg": 1.0, "topk": 3}), "teacher_settings: unknown: topk"),
    (named("x", teacher_settings={"top_p": 0.0}), "teacher_settings: top_p"),
    (named("x", teacher_settings=[1]), "teacher_settings: no JSON object"),
    (named("x", accuracy=None), "neither accuracy nor inception_score"),
    (named("x", inception_score=3.0), "or both"),
    (named("x", sampler="refine"), "start=None of refine"),
    (named("x", start=3), "start=3 of one_step"), (named("x", command=3), "command=3"),
]


@pytest.mark.parametrize(("values", "says"), DAMAGED)
def test_what_is_no_measurement_is_one_sentence(values, says, tmp_path):
    with pytest.raises(DD2Error, match=says) as stopped:
        read(write(tmp_path, values))
    text = str(stopped.value)
    assert "x.json is no whole measurement (" in text and text.endswith("with train.evaluate.")


def test_a_number_beyond_all_floats_is_refused(tmp_path):
    path = write(tmp_path, named("x", fd=12345.0))
    path.write_text(path.read_text().replace("12345.0", "1e999"))  # which JSON reads as infinite
    with pytest.raises(DD2Error, match=r"x\.json is no whole measurement \(fd=inf\)"):
        read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x00\xff"])
def test_what_is_no_json_is_one_sentence(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    for reader in (read, read_speed):
        with pytest.raises(DD2Error, match=r"a\.json (is not JSON|holds no JSON object)"):
            reader(tmp_path / "a.json")
        with pytest.raises(DD2Error, match=r"b\.json is missing"):
            reader(tmp_path / "b.json")


# Older files ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("stem", "title", "table"), [
    ("one_step", "**DD2, one step**", "quality"), ("teacher", "AR teacher", "quality"),
    ("teacher-cfg1.25", "AR teacher (guidance 1.25)", "guidance"),
    ("dd1-lr1e-3", "DD1, one step (rate 1e-3)", "quality"),
    ("dd1-sweep-lr3e-4", "DD1, one step (sweep-rate 3e-4)", "quality"),
    ("dd2_short-400", "DD2 early (400)", "quality"), ("unknown", "unknown", "quality"),
    ("try-csd-001500", "try (csd-001500)", "tried"),
    ("refine-45", "one step, then the teacher (from step 45)", "refine"),
])
def test_an_older_file_is_what_its_name_says(stem, title, table, tmp_path):
    more = {"sampler": "refine", "start": 45} if table == "refine" else {}
    m = read(write(tmp_path, unnamed(**more), stem))
    assert (m.title, m.table, m.tag) == (title, table, stem)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_every_shipped_file_is_read_whole(path):
    values, m = json.loads(path.read_text()), read(path)
    written = to_json(m)
    assert {k: written[k] for k in values} == values
    assert written.keys() - values.keys() <= {"method", "note", "table", "tag", "split"}
    assert m.tag == path.stem and m.sampler == values["sampler"]
    prefix = {"refine": "refine-", "tried": "try-", "guidance": "teacher-cfg", "quality": ""}
    assert path.stem.startswith(prefix[m.table])


def test_every_shipped_model_has_measurements():
    models = {path.parent.name for path in ASSETS.glob("*/config.json")}
    assert models and models == {path.parts[-3] for path in SHIPPED}


# The benchmark ----------------------------------------------------------------------------------

@pytest.mark.parametrize("path", sorted(ASSETS.glob("*/results/benchmark.json")),
                         ids=lambda p: p.parts[-3])
def test_a_shipped_benchmark_is_read_whole(path):
    values = json.loads(path.read_text())
    speed = read_speed(path)
    assert json.loads(json.dumps(to_json(speed))) == values
    assert speed.of_one_image() == values["rows"][0]["ms"] and values["rows"][0]["batch"] == 1


@pytest.mark.parametrize(("change", "says"), [
    ({"rows": None}, "rows=None"), ({"rows": [{"batch": 1}]}, r"rows\[0\]: missing: ms, ratio"),
    ({"passes": {"teacher": "49"}}, r"passes\.teacher='49'"), ({"device": 3}, "device=3"),
    ({"rows": [{**SPEED["rows"][0], "ms": {"teacher": 1.0}}]}, "ms without decode, one_step"),
    ({"rows": [{**SPEED["rows"][0], "ms": {**SPEED["rows"][0]["ms"], "decode": 0.0}}]}, "ms ≤ 0"),
    ({"flops_per_image": {"teacher": 1}}, "flops_per_image without decode"),
    ({"speed": 1}, "unknown: speed"),
])
def test_what_is_no_benchmark_is_one_sentence(change, says, tmp_path):
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps({**SPEED, **change}))
    with pytest.raises(DD2Error, match=says) as stopped:
        read_speed(path)
    assert str(stopped.value).endswith("measure again with train.benchmark.")


def test_a_batch_that_was_not_timed_has_no_times():
    rows = [{**SPEED["rows"][0], "batch": 8}]
    assert from_json(Speed, {**SPEED, "rows": rows}).of_one_image() == {}
