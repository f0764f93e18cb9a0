"""What the README says is what the files say."""

import re

import pytest

from app.html import measured
from dd2core import load_pipeline
from dd2core.results.collection import load_results
from train.report import MARKERS, section
from train.settings.cli import PRESETS, ROOT

README = (ROOT / "README.md").read_text()
SHIPPED = sorted(path.parent.name for path in (ROOT / "assets").glob("*/config.json"))


@pytest.mark.parametrize("preset", SHIPPED)
def test_the_results_are_made_from_the_measured_files(preset):
    begin, end = (marker.format(preset) for marker in MARKERS)
    shown = README.split(begin)[1].split(end)[0].strip()
    assert shown == section(load_results(ROOT / "assets" / preset / "results"))
    assert "AR teacher" in shown and "10,000" in shown


@pytest.mark.parametrize("preset", SHIPPED)
def test_shipped_curves_are_measured_at_eight_settings_or_all(preset):
    folder = ROOT / "assets" / preset
    results = load_results(folder / "results")
    points, teacher, samples = measured.refine_curve(results)
    steps = load_pipeline(str(folder), device="cpu").teacher.num_steps
    passes = [x for x, _ in points]
    assert passes[0] == 1 and passes[-1] == steps and len(passes) >= min(8, steps)
    assert teacher is not None and samples == {10_000}
    assert [m.start for m in results.of("refine")] == [1 + steps - x for x in passes[1:]]


def test_a_preset_is_shipped():
    assert "fashion-llamagen" in SHIPPED


def test_commands_and_presets_exist():
    stages = set(re.findall(r"python -m train\.(\w+)", README))
    assert {"all", "evaluate"} <= stages
    for stage in stages:
        assert (ROOT / "train" / f"{stage}.py").is_file(), stage
    for preset in re.findall(r"preset=([a-z][\w-]*)", README):
        assert (PRESETS / f"{preset}.yaml").is_file(), preset


def test_pictures_and_files_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def test_the_front_matter_is_that_of_a_space():
    front = README.split("---")[1]
    for line in ("sdk: gradio", "app_file: app.py", "license: mit"):
        assert line in front
