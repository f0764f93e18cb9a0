"""The picture of both samplers' images side by side."""

import numpy as np
import pytest
from PIL import Image

from dd2core.errors import DD2Error
from dd2core.results.collection import load_results
from tests.support.measurements import named, write
from train.publish.comparison import GAP, HEAD, comparison


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, named("one_step"))
    write(tmp_path, named("early", "tried"))
    write(tmp_path, named("strong", "guidance", sampler="teacher", passes=49, teacher_settings={
        "cfg": 9.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}))
    write(tmp_path, named("mine", "guidance", sampler="teacher", passes=49))
    for tag, colour in (("one_step", "red"), ("early", "green"), ("strong", "yellow"),
                        ("mine", "blue")):
        Image.new("RGB", (200, 100), colour).save(tmp_path / "results" / f"{tag}.png")
    return tmp_path


def test_the_presets_teacher_is_left_and_one_step_right(folder):
    comparison(load_results(folder / "results"), folder / "out.png")
    image = Image.open(folder / "out.png")
    assert image.size == (200 + GAP + 200, 100 + HEAD)
    assert image.getpixel((0, HEAD)) == image.getpixel((199, HEAD + 99)) == (0, 0, 255)
    assert image.getpixel((200 + GAP, HEAD)) == image.getpixel((399 + GAP, HEAD)) == (255, 0, 0)
    assert image.getpixel((200, HEAD)) == (255, 255, 255)
    assert (np.asarray(image)[:HEAD] == 0).any()  # names above them


@pytest.mark.parametrize(("gone", "says"), [
    (["mine.png"], "no samples of teacher:"), (["mine.json"], "no samples of teacher:"),
    (["one_step.json", "mine.png"], "no samples of teacher and one_step:"),
])
def test_what_is_missing_is_named(gone, says, folder):
    for name in gone:
        (folder / "results" / name).unlink()
    with pytest.raises(DD2Error, match=says):
        comparison(load_results(folder / "results"), folder / "out.png")
    assert not (folder / "out.png").exists()
