"""The pictures in the lists of classes, and the paper that the model's pictures are on."""

import base64
import io
import re
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app.own import samples
from app.own.pictures import read_picture
from app.serve.runs import Samplers
from dd2core.pipeline import Pipeline
from tests.support import tiny_colour


@pytest.fixture(scope="module")
def samplers():
    return Samplers(Pipeline(tiny_colour.model()))


def test_every_class_has_the_picture_that_its_seed_paints_alone(samplers):
    painted = samples.samples(samplers)
    assert painted.shape == (30, 48, 48, 3)
    for label in (0, 13, 29):
        alone = samplers.pipe.sample_one_step([label], seed=label)
        assert np.abs(painted[label].astype(int) - alone.images[0]).max() <= 1  # of 255


def test_they_are_painted_once(samplers, monkeypatch):
    first = samples.samples(samplers)
    monkeypatch.setattr(samplers, "gallery", None)
    assert samples.samples(samplers) is first


def test_the_style_sheet_has_a_place_for_every_class_and_no_name_leaves_it(samplers):
    text = samples.style(samplers)
    assert text.count("<") == 2 and text.startswith("<style>") and text.endswith("</style>")
    assert re.findall(r"background-position:(-?\d+)px", text) == [str(-32 * i) for i in range(30)]
    quoted = re.findall(r'\[aria-label="([^"]*)"\]', text)
    back = [re.sub(r"\\([0-9a-f]+) ", lambda m: chr(int(m[1], 16)), name) for name in quoted]
    assert back == tiny_colour.CLASSES
    sheet = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^)]+)\)", text)[1])))
    assert sheet.size == (30 * 32, 32) and len(text) < 60_000


def test_where_painting_is_slow_or_refused_the_names_stand_alone(samplers, monkeypatch):
    def refused(*_):
        raise gr.Error("Too many wait.")

    large = SimpleNamespace(device=samplers.pipe.device, image_size=256, generator=True)
    class Busy:
        pipe, gallery = samplers.pipe, staticmethod(refused)

    for one in (SimpleNamespace(pipe=large), Busy()):
        assert samples.samples(one) is None and samples.style(one) == ""
        assert samples.paper(one) == "black"
    monkeypatch.setattr(samples.zero, "LENT", True)
    assert samples.samples(samplers) is None


@pytest.mark.parametrize("level, name", [(0, "black"), (90, "black"), (250, "white")])
def test_the_paper_is_what_the_corners_are_nearer_to(monkeypatch, level, name):
    images = np.full((4, 8, 8, 3), level, np.uint8)
    images[:, 1:-1, 1:-1] = 255 - level
    monkeypatch.setattr(samples, "samples", lambda _: images)
    assert samples.paper(None) == name
    data = io.BytesIO()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(data, "PNG")
    text = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    assert read_picture(text, 8, 3, name).unique().tolist() == [255 if name == "white" else 0]
