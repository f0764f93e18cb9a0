"""The tabs beside Compare, the model picker and the addresses of views, without a browser."""

import io
import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from app.address import View, address
from app.api import Handlers
from app.html import files as picture
from app.html import measured, present
from app.html.charts import Axes, Chart, Line, Mark, around, draw, ticks
from app.html.files import animation, archive
from app.page import TABS
from app.requests import all_classes
from app.serve.models import Models
from app.serve.token_score import covered, examine
from app.shipped import PREFERRED, first_shipped, shipped
from app.tabs.inside import InsideTab
from app.tabs.refine import RefineTab
from app.tabs.results import ResultsTab, tables_of
from app.zero import seconds_for
from dd2core import DD2Error, Pipeline
from dd2core.score import posterior_mean
from tests.support import tiny, tiny_var
from tests.support.app_helpers import demo_pipe
from tests.support.measurements import named, write


@pytest.fixture(scope="module")
def pipe():
    return demo_pipe()


@pytest.fixture(scope="module")
def models(pipe):
    """The shipped model and a random one of the other family."""
    return Models.of(pipe, Pipeline(tiny_var.model()))


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


# Models ----------------------------------------------------------------------------------


def test_the_first_model_is_the_default_and_unknown_ones_are_one_sentence(models, pipe):
    assert models.default is models.get(None) is models.get(pipe.name)
    for wrong in ("unicorn", 3, ["fashion-llamagen"], "x" * 100_000):
        with pytest.raises(gr.Error) as caught:
            models.get(wrong)
        assert caught.value.message.startswith("Unknown model") and len(caught.value.message) < 300


def test_only_whole_models_with_a_generator_are_on_offer(tmp_path):
    for name, text in (("a", '{"parts": ["teacher", "generator"]}'), ("b", '{"parts": []}'),
                       ("c", '{"parts": ["gen')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    (tmp_path / "screenshots").mkdir()
    assert shipped(tmp_path) == ["a"]
    assert "fashion-llamagen" in shipped()


def test_the_page_opens_with_the_first_of_the_preferred_order_that_is_whole(tmp_path):
    with pytest.raises(DD2Error, match=r"No model lies in assets/: set DD2_MODEL"):
        first_shipped(tmp_path)
    whole, bare = '{"parts": ["generator"]}', '{"parts": ["tokenizer"]}'
    for name, text in (("zebra", whole), ("abacus", whole), (PREFERRED[1], whole),
                       (PREFERRED[3], whole), (PREFERRED[0], bare)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    assert shipped(tmp_path) == [PREFERRED[1], PREFERRED[3], "abacus", "zebra"]
    (tmp_path / PREFERRED[0] / "config.json").write_text(whole)
    assert first_shipped(tmp_path) == PREFERRED[0] == "emoji-llamagen"


def test_endpoints_take_a_model_as_their_last_argument(models):
    handlers, other = Handlers(models), models.names[1]
    _, numbers = handlers.generate(count=2, model=other)
    assert numbers["model"] == other
    *_, (_, _, numbers) = handlers.compare(count=1, model=other)
    assert numbers["teacher"]["steps"] == models.get(other).pipe.teacher.num_steps
    with pytest.raises(gr.Error, match="Unknown model 'x'"):
        handlers.interpolate(model="x")


def test_every_tab_fits_every_model(models):
    with gr.Blocks():
        for kind in TABS:
            tab = kind(models)
            shared = SimpleNamespace(
                model=gr.HTML(models.names[0]), where=gr.Textbox(), search=gr.Textbox()
            )
            tab.build(shared)
            for name in models.names:
                values = tab.fit(models.get(name).pipe, View())
                assert len(values) == len(tab.fitted), kind


# Addresses -------------------------------------------------------------------------------


def test_an_address_is_read_back_as_it_was_written():
    view = View("?" + address("explore", "m", class_="T-shirt/top", seed=7, at="0.25"))
    assert view.choice("tab", ["compare", "explore"], "compare") == "explore"
    assert view.choice("class", ["T-shirt/top"], "") == "T-shirt/top"
    assert view.whole("seed", 0, 10, 0) == 7 and view.number("at", 0, 1, 0.5) == 0.25
    assert view.complaints == []


@pytest.mark.parametrize("query", ["seed=-1", "seed=1e3", "seed=%C2%B2", "seed=99", "at=nan",
                                   "at=inf", "at=2", "at=", "class=Unicorn"])
def test_what_does_not_fit_is_left_at_its_default_and_told(query):
    view = View(query)
    got = (view.whole("seed", 0, 10, 3), view.number("at", 0, 1, 0.5),
           view.choice("class", ["Bag"], "Bag"))
    assert got == (3, 0.5, "Bag")
    assert len(view.complaints) == (0 if query == "at=" else 1)  # an empty value is none


# Files ------------------------------------------------------------------------------------


def test_an_animation_goes_there_and_back_at_the_speed_of_sight():
    images = np.zeros((5, 28, 28, 1), np.uint8) + np.arange(5, dtype=np.uint8)[:, None, None, None]
    gif = Image.open(io.BytesIO(animation(images * 50)))
    assert gif.n_frames == 8 and min(gif.size) >= 224 and gif.info["loop"] == 0


def test_empty_folders_of_the_cache_go(tmp_path, monkeypatch):
    """Gradio deletes the files of an hour ago and leaves their folders."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(picture, "_tidied", -picture.EVERY)
    old, new, full = (tmp_path / name for name in ("old", "new", "full"))
    for folder in (old, new, full):
        folder.mkdir()
    (full / "image.png").write_bytes(b"")
    for folder in (old, full):
        os.utime(folder, (0, 0))
    kept = Path(picture.keep_bytes(b"1", "a.txt"))
    assert kept.read_bytes() == b"1" and not old.exists() and new.exists() and full.exists()
    os.utime(new, (0, 0))
    picture.keep_bytes(b"2", "a.txt")
    assert new.exists()  # looked at again in ten minutes


def test_the_archive_holds_every_image_and_the_numbers():
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    data = archive({"one-step": images}, ["T-shirt/top", "../../evil"], {"seed": 3})
    bundle = zipfile.ZipFile(io.BytesIO(data))
    assert bundle.namelist() == [
        "one-step/01-t-shirt-top.png", "one-step/02-evil.png", "numbers.json"
    ]
    assert np.array_equal(pixels(bundle.open("one-step/01-t-shirt-top.png")), images[0, ..., 0])
    assert json.load(bundle.open("numbers.json")) == {"seed": 3}


# Refine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [1, 5])
def test_refine_shows_what_the_pipeline_paints_at_that_many_passes(models, pipe, passes):
    html, _, query = RefineTab(models).paint(None, "All classes", 3, passes)
    start = 1 + pipe.teacher.num_steps - passes
    expected = pipe.refine(all_classes(len(pipe.class_names), 8), seed=3, start=start)
    assert expected.passes == passes
    assert all(present.data_uri(image) in html for image in expected.images)
    assert f"passes={passes}" in query


def test_the_curve_is_read_from_files_and_interpolated(tmp_path):
    write(tmp_path, named("one_step", n=2000))
    write(tmp_path, named("x", "tried", fd=9.0))
    model = SimpleNamespace(model=SimpleNamespace(folder=tmp_path))
    assert measured.refine_curve(measured.results_of(model)) == ([], None, set())
    write(tmp_path, named("r", "refine", sampler="refine", start=47, passes=3, fd=2.0, n=2000))
    (tmp_path / "results" / "damaged.json").write_text("{")
    points, teacher, samples = measured.refine_curve(measured.results_of(model))
    assert points == [(1, 4.0), (3, 2.0)] and teacher is None and samples == {2000}
    assert measured.interpolated(points, 2) == 3.0
    assert measured.interpolated(points, 4) is None
    assert measured.refine_curve(None) == ([], None, set())


def test_without_measurements_a_sentence_says_so(models):
    other = models.names[1]
    _, curve, _ = RefineTab(models).paint(other, "All classes", 0, 1)
    assert "Not measured for this model yet" in " ".join(curve.split())
    html, *_ = ResultsTab(models).show_all(other, "no grids", "no grids")
    assert "No measurements lie beside this model." in html


# Inside the method -----------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
def test_the_scores_of_one_token_are_the_closed_form_and_the_network(models, which):
    pipe = models.get(models.names[which]).pipe
    place = 7
    token = examine(pipe, 1, 0, place, 0.5)
    sample = pipe.sample_one_step([1], seed=0)
    assert token.code == sample.tokens[0, place]
    assert token.p.sum() == pytest.approx(1, abs=1e-4)
    assert token.after.sum() == pytest.approx(1, abs=1e-4)
    first, last = pipe.teacher.spans[token.step]
    assert first <= place < last
    s = pipe.sampling
    log_p = pipe.teacher.log_probs(sample.tokens, torch.tensor([1]), s.cfg)[0, place]
    t = torch.tensor(token.times)[:, None]
    x_t = (1 - t) * pipe.teacher.codebook[token.code] + t * pipe.latents(1, 1)[0, place]
    d_phi = posterior_mean(x_t, t, log_p, pipe.teacher.codebook)
    h = pipe.guidance.features(sample.tokens, torch.tensor([1]))
    wide = x_t[:, None].expand(-1, pipe.teacher.num_tokens, -1)
    d_psi = pipe.guidance.denoise(wide, t[:, None], h)[:, place]
    gap = (d_phi - d_psi).norm(dim=-1)
    assert np.allclose(token.gap, gap.detach(), atol=2e-3)


def test_the_frame_covers_what_the_token_covers():
    raster = [(i, i + 1) for i in range(4)]
    assert covered(raster, 3) == (0.5, 0.5, 0.5)
    scales = [(0, 1), (1, 5)]
    assert covered(scales, 0) == (0, 0, 1) and covered(scales, 2) == (0.5, 0, 0.5)
    assert covered([(0, 1), (1, 4)], 2) is None  # no square


def test_inside_shows_charts_that_say_what_they_show(models, pipe):
    html, query = InsideTab(models).show(None, pipe.class_names[0], 0, 25, 0.5)
    assert html.count("<svg") == html.count('role="img"') == 4
    assert "token=25" in query and "t=0.5" in query


# Results ---------------------------------------------------------------------------------


def test_results_shows_the_numbers_of_the_files_with_their_commands(models, pipe):
    tab = ResultsTab(models)
    names = [grid.name for grid in measured.grids(measured.results_of(pipe))]
    html, left, right, _ = tab.show_all(None, names[0], names[1])
    numbers = json.loads((pipe.model.folder / "results" / "one_step.json").read_text())
    assert f"<td>{numbers['fd']:.2f}</td>" in html and numbers["command"] in html
    assert "<img" in left and "python -m train.evaluate" in left and left != right
    with pytest.raises(gr.Error, match="Unknown grid"):
        tab.show(None, "../../secret")


def test_a_half_written_folder_is_shown_as_far_as_it_goes(models, pipe, tmp_path):
    shutil.copytree(pipe.model.folder / "results", tmp_path / "results")
    shutil.copy(pipe.model.folder / "config.json", tmp_path)
    (tmp_path / "results" / "one_step.json").write_text('{"fd": 1.0')
    (tmp_path / "results" / "parallel.json").write_text('{"fd": 1.0}')
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gts.jsonl").write_text('{"step": 1}')
    half = SimpleNamespace(model=SimpleNamespace(folder=tmp_path), name="half")
    html = tables_of(half)
    assert "Speed" in html and "DD1, one step" in html and "What training took" not in html
    assert "parallel sampling" not in html
    names = [grid.name for grid in measured.grids(measured.results_of(half))]
    assert names[0] == "AR teacher (guidance 1.0)" and "DD2, one step" not in names


def test_the_grids_in_front_are_the_presets_teacher_and_one_step(models, pipe):
    left, right, *_ = ResultsTab(models).fit(pipe, View())
    assert left.value == f"AR teacher (guidance {pipe.sampling.cfg:g})"
    assert right.value == "DD2, one step"


# Charts ----------------------------------------------------------------------------------


def test_a_chart_is_well_formed_and_escapes_its_words():
    chart = Chart(
        "<b>&", '"says"', Axes((0, 10), (0, 1), "x<", "y&"),
        [Line("a<b", [0, 5, 10], [0.0, float("nan"), 1.0], dots=True)],
        [Mark("m", 5, 0.5), Mark("n", 5, 0.5, shape="cross")], bars=[0.1, 0.2], lit=1, upright=5,
    )
    tree = ElementTree.fromstring(draw(chart))
    svg = tree.find("svg")
    assert svg.attrib["aria-label"] == '<b>&: "says"' and svg.attrib["role"] == "img"
    assert "nan" not in draw(chart)


@pytest.mark.parametrize("low, high", [(0, 1), (-3, 2.5), (0, 49), (1e-4, 2e-4), (0, 1e6)])
def test_ticks_are_few_round_and_inside(low, high):
    at = ticks(low, high)
    assert 2 <= len(at) <= 7 and low - 1e-9 <= at[0] and at[-1] <= high * (1 + 1e-9) + 1e-9


def test_a_range_has_air_but_not_below_zero_where_zero_is_the_floor():
    low, high = around([1.0, 3.0], zero=True)
    assert low == 0 and high > 3
    assert around([]) and around([2.0])[0] < 2 < around([2.0])[1]


def test_gpu_time_is_asked_for_by_batch():
    assert seconds_for(1) < seconds_for(64) <= 60


def test_a_model_without_guidance_network_still_shows_the_teachers_score():
    pipe = Pipeline(tiny.model())
    bare = SimpleNamespace(**{**vars(pipe), "guidance": None, "device": pipe.device,
                              "latents": pipe.latents, "sample_one_step": pipe.sample_one_step})
    token = examine(bare, 0, 0, 1, 0.5)
    assert token.fake is None and token.gap is None
