"""What README and docs/ show is made from what was measured."""

import json

import pytest

from app.html import measured
from dd2core import load_pipeline
from dd2core.errors import DD2Error
from dd2core.results.collection import load_results
from tests.support.measurements import NUMBERS, named
from train.report import replaced
from train.results import front
from train.results.shipped import section
from train.settings.cli import ROOT

SHIPPED = front.shipped(ROOT / "assets")


@pytest.mark.parametrize("preset", SHIPPED)
def test_shipped_curves_are_measured_at_eight_settings_or_all(preset):
    folder = ROOT / "assets" / preset
    results = load_results(folder / "results")
    points, teacher, samples = measured.refine_curve(results)
    steps = load_pipeline(str(folder), device="cpu").teacher.num_steps
    passes = [x for x, _ in points]
    assert passes[0] == 1 and passes[-1] == steps and len(passes) >= min(8, steps)
    assert teacher is not None and min(samples) >= 2_000
    assert [m.start for m in results.of("refine")] == [1 + steps - x for x in passes[1:]]


@pytest.mark.parametrize("preset", SHIPPED)
def test_everything_measured_of_a_shipped_model_has_its_section(preset):
    text = section(load_results(ROOT / "assets" / preset / "results"))
    assert "AR teacher" in text and "10,000" in text
    assert "before provenance was recorded" in text or "commit" in text


def test_a_preset_is_shipped():
    assert "fashion-llamagen" in SHIPPED


@pytest.fixture
def folders(tmp_path):
    """Shipped folder of a model of two steps without results, and an empty docs/results."""
    folder = tmp_path / "assets" / "fashion-var"
    (folder / "results").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({
        "sampling": NUMBERS["teacher_settings"], "transformer": {"patch_nums": [1, 2]},
        "tokenizer": {"image_size": 28, "in_channels": 3}}))
    for part in ("teacher", "generator"):
        shipped = ROOT / f"assets/fashion-var/{part}.safetensors"
        (folder / f"{part}.safetensors").symlink_to(shipped)
    (tmp_path / "own" / "fashion-var").mkdir(parents=True)
    return tmp_path / "assets", tmp_path / "own"


def test_a_model_appears_with_its_files_and_what_was_not_run_says_so(folders):
    assert "| `fashion-var` | 28×28, colour | 1.3 M / 1.3 M | 2 / 1 | – | – | – | – |" in (
        front.models(*folders))
    text = front.results(*folders)
    assert text.count("| not run |") == len(front.ROWS)
    (folders[0] / "fashion-var/generator.safetensors").unlink()
    assert front.models(*folders) == "" and "not run" not in front.results(*folders)


def test_ratios_and_spread_come_from_the_files(folders):
    for stem, fd in (("tokenizer", 1.0), ("teacher", 2.0), ("one_step", 3.0), ("one_step-s1", 5.0)):
        path = folders[1] / f"fashion-var/{stem}.json"
        path.write_text(json.dumps(named(stem, sampler=stem.removesuffix("-s1"), fd=fd)))
    row = front.results(*folders).split("| **DD2**, our recipe |")[1].splitlines()[0]
    for words in ("FD 4.00 (3.00–5.00) / –", "÷ teacher 2.00 (1.50–2.50) / –",
                  "above the floor 3.00 (2.00–4.00) / –", "2 training seeds"):
        assert words in row


def test_a_page_without_its_marker_lines_is_one_sentence():
    with pytest.raises(DD2Error, match="There are no lines <!-- a begin --> and <!-- a end -->"):
        replaced("no", "a", "table")
    assert replaced("x\n<!-- a begin -->\nold\n<!-- a end -->\ny", "a", "new") == (
        "x\n<!-- a begin -->\nnew\n<!-- a end -->\ny")
