"""What the README says is what the files say."""

import re

from train.config import PRESETS, ROOT
from train.report import BEGIN, END, section

README = (ROOT / "README.md").read_text()


def test_the_results_are_made_from_the_measured_files():
    shown = README.split(BEGIN)[1].split(END)[0].strip()
    assert shown == section(ROOT / "assets" / "fashion-llamagen" / "results")
    assert "| 49 |" in shown and "10,000" in shown


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
