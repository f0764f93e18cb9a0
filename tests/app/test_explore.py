"""Explore: the way between two seeds, the classes at one noise, the map of both."""

import base64
import io
import json
import re
from html import unescape
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from app.address import View
from app.api import Handlers
from app.html import present
from app.serve.models import Models
from app.tabs.explore import ExploreTab, _labels, first_pair
from app.tabs.pad import painted
from dd2core import Pipeline
from dd2core.noise import slerp
from tests.support import tiny_var
from tests.support.app_helpers import demo_pipe


@pytest.fixture(scope="module")
def pipe():
    return demo_pipe()


@pytest.fixture(scope="module")
def models(pipe):
    """The shipped model and a random one of the other family."""
    return Models.of(pipe, Pipeline(tiny_var.model()))


def test_interpolate_ends_at_both_seeds_and_goes_along_the_sphere(models, pipe):
    name = pipe.class_names[3]
    grid, gif, numbers = Handlers(models).interpolate(name, 4, 5, count=3)
    ends = [pipe.latents(1, seed) for seed in (4, 5)]
    way = slerp(*ends, torch.tensor([0.0, 0.5, 1.0]))
    expected = pipe.sample_one_step([3] * 3, latents=way).images
    assert np.array_equal(np.asarray(Image.open(grid)), np.asarray(present.grid(expected)))
    assert numbers["seeds"] == [4, 5] and numbers["class"] == name and numbers["passes"] == 1
    assert Image.open(gif).n_frames == 4  # there, and back without the ends


@pytest.mark.parametrize("wrong", [{"class_name": "Unicorn"}, {"class_name": "All classes"},
                                   {"seed_a": -1}, {"seed_b": "x"}, {"count": 1}, {"count": 49},
                                   {"count": True}, {"seed_a": float("nan")}])
def test_interpolate_refuses_in_one_sentence(models, wrong):
    with pytest.raises(gr.Error) as caught:
        Handlers(models).interpolate(**wrong)
    assert caught.value.message.endswith(".") and "\n" not in caught.value.message


def test_the_slider_paints_the_ends_the_place_between_and_every_class(models, pipe):
    tab = ExploreTab(models)
    html, query = tab.paint(None, pipe.class_names[2], 1, 2, 0.25)
    assert html.count("<img") == 3 + len(pipe.class_names)
    assert "25% of the way" in html and "seed=1" in query and "to=2" in query
    assert re.search(r"in one pass: model [\d.]+ m?s, decoder", html)  # the model's share
    same, _ = tab.paint(None, pipe.class_names[2], 1, 2, 0.25)
    other, _ = tab.paint(None, pipe.class_names[2], 1, 2, 0.75)
    pictures = [text.split('id="latent-cost"')[0] for text in (html, same, other)]
    assert pictures[0] == pictures[1] != pictures[2]


def test_the_map_is_what_the_slider_paints_and_is_painted_anew_only_for_others(models, pipe):
    tab = ExploreTab(models)
    names = pipe.class_names
    *_, shown, key = tab.tidy(None, names[2], 1, 2, "", "")
    data = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    picture = painted(models.default, list(range(10)), (1, 2))[..., 0]
    sent = np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(int)
    assert np.abs(sent - picture).mean() < 3  # WebP rounds
    way = slerp(pipe.latents(1, 1), pipe.latents(1, 2), torch.tensor([0.25]))
    wanted = pipe.sample_one_step([3], latents=way).images[0, ..., 0]
    cell = picture[29:29 + 28, 3 * 29:3 * 29 + 28].astype(int)  # second row: a quarter of the way
    assert np.abs(cell - wanted).max() <= 1 and picture.shape == (5 * 29 - 1, 10 * 29 - 1)
    assert json.loads(unescape(re.search(r'data-classes="([^"]+)"', shown)[1])) == names
    skip = gr.skip()
    assert tab.tidy(None, names[5], 1, 2, "", key)[-2:] == (skip, skip)  # another class of the same
    assert tab.tidy(None, names[2], 1, 3, "", key)[-1] not in (skip, key)
    assert tab.tidy(None, names[2], -1, 3, "", key)[-2:] == (skip, skip)  # refused elsewhere


@pytest.mark.parametrize("device, calls", [("cpu", 5), ("cuda", 1)])
def test_the_map_is_one_pass_where_there_is_a_gpu_and_its_pictures_are_small(device, calls):
    asked = []

    def morph(labels, start, end, places):
        asked.append(labels)
        values = [40 * label + 10 * round(4 * place) for label, place in zip(labels, places,
                                                                           strict=True)]
        pixels = np.array(values, np.uint8)[:, None, None, None]
        return SimpleNamespace(images=np.broadcast_to(pixels, (len(values), 128, 128, 3)))

    pipe = SimpleNamespace(device=SimpleNamespace(type=device))
    image = painted(SimpleNamespace(pipe=pipe, morph=morph), [1, 3, 4], (0, 1))
    assert image.shape == (5 * 65 - 1, 3 * 65 - 1, 3) and len(asked) == calls
    shown = image[32::65, 32::65, 0].tolist()
    assert shown == [[40 * label + 10 * row for label in (1, 3, 4)] for row in range(5)]


def test_classes_are_shown_by_tens_with_the_chosen_one_among_them():
    many = SimpleNamespace(class_names=["x"] * 34, image_size=48, device=torch.device("cpu"))
    assert [_labels(many, i)[0] for i in (0, 9, 10, 29, 30, 33)] == [0, 0, 10, 20, 24, 24]
    assert all(label in _labels(many, label) and len(_labels(many, label)) == 10
               for label in range(34))
    few = SimpleNamespace(class_names=["x"] * 3, image_size=48, device=torch.device("cpu"))
    assert _labels(few, 2) == [0, 1, 2]


def test_one_seed_in_the_address_is_not_both_ends(models, pipe):
    tab = ExploreTab(models)
    with gr.Blocks():
        tab.build(SimpleNamespace(model=gr.HTML(""), where=gr.Textbox(), search=gr.Textbox()))
    end = first_pair(pipe)[1]
    for query, ends in ((f"?seed={end}", [end, end + 1]), ("?seed=5", [5, end]),
                        ("?seed=4&to=4", [4, 4]), ("", list(first_pair(pipe)))):
        assert tab.fit(pipe, View(query))[1:3] == ends


def test_the_morph_has_a_row_for_each_class(models, pipe):
    html, *_ = ExploreTab(models).morph(None, pipe.class_names[0], 0, 1)
    assert html.count("<img") == 8 * len(pipe.class_names)
