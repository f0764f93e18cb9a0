"""What the README says is what the files say."""

import re

import pytest

from train.config import PRESETS, ROOT
from train.report import MARKERS, section

README = (ROOT / "README.md").read_text()
SHIPPED = sorted(path.parent.name for path in (ROOT / "assets").glob("*/config.json"))


@pytest.mark.parametrize("preset", SHIPPED)
def test_the_results_are_made_from_the_measured_files(preset):
    begin, end = (marker.format(preset) for marker in MARKERS)
    shown = README.split(begin)[1].split(end)[0].strip()
    assert shown == section(ROOT / "assets" / preset / "results")
    assert "AR teacher" in shown and "10,000" in shown


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
