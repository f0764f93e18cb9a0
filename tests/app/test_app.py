"""The page, driven as a program drives it: through gradio_client, and started as a command."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from app.html import present
from app.page import build_page
from app.requests import MAX_SEED, all_classes
from app.serve.models import Models
from app.tabs.compare import CompareTab
from app.tabs.tab import Shared
from tests.support.app_helpers import demo_pipe, serve

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pipe():
    return demo_pipe()


@pytest.fixture(scope="module")
def url(pipe):
    with serve(pipe) as address:
        yield address


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def stream(client: Client, **arguments) -> list:
    return list(client.submit(api_name="/compare", **arguments))


def test_compare_without_arguments_streams_the_teacher_beside_the_finished_one_step(client, pipe):
    parts = stream(client)
    assert len(parts) >= 3
    one, teacher, numbers = parts[0]
    assert teacher is None and numbers["teacher"] is None and numbers["speedup"] is None
    assert numbers["one_step"]["done"] and numbers["one_step"]["passes"] == 1
    steps = [numbers["teacher"]["step"] for _, _, numbers in parts[1:]]
    assert steps == sorted(set(steps)) and steps[-1] == pipe.teacher.num_steps
    assert all(np.array_equal(pixels(part[0]), pixels(one)) for part in parts)
    assert not np.array_equal(pixels(parts[1][1]), pixels(parts[-1][1]))


def test_the_ratio_is_that_of_the_times_shown(client, pipe):
    numbers = stream(client, count=3)[-1][2]
    one, teacher = numbers["one_step"], numbers["teacher"]
    assert teacher["done"] and teacher["passes"] == pipe.teacher.num_steps
    for run in (one, teacher):
        assert run["seconds"] == pytest.approx(run["model_seconds"] + run["decode_seconds"])
        assert min(run["model_seconds"], run["decode_seconds"]) > 0
    assert min(teacher["wall_seconds"], one["wall_seconds"]) > 0
    assert numbers["speedup"] == pytest.approx(teacher["seconds"] / one["seconds"])
    ends = numbers["speedup_low"], numbers["speedup_high"]
    assert min(one["readings"], teacher["readings"]) >= 1
    if min(one["readings"], teacher["readings"]) > 1:
        assert ends[0] <= numbers["speedup"] <= ends[1]
    else:  # a busy machine has time for one
        assert ends == (None, None)
    ratio = teacher["model_seconds"] / one["model_seconds"]
    assert numbers["speedup_model"] == pytest.approx(ratio)
    assert numbers["device"] == "cpu" and numbers["threads"] >= 1 and numbers["count"] == 3
    assert {one["threads"], teacher["threads"]} <= {1, numbers["threads"]}


@pytest.mark.parametrize("sampler", ["one_step", "teacher"])
def test_generate_gives_the_images_of_compare(client, sampler):
    arguments = {"count": 4, "seed": 11}
    image, numbers = client.predict(sampler, api_name="/generate", **arguments)
    one, teacher, _ = stream(client, **arguments)[-1]
    assert np.array_equal(pixels(image), pixels(one if sampler == "one_step" else teacher))
    assert numbers["sampler"] == sampler and numbers["seed"] == 11 and numbers["count"] == 4


def test_generate_without_arguments_is_one_step(client, pipe):
    image, numbers = client.predict(api_name="/generate")
    assert numbers["sampler"] == "one_step" and numbers["passes"] == 1
    expected = pipe.sample_one_step(all_classes(len(pipe.class_names), 8), seed=0).images
    assert np.array_equal(pixels(image), np.asarray(present.grid(expected)))


@pytest.mark.parametrize("sampler", ["one_step", "teacher"])
def test_same_seed_same_image_other_seed_other_image(client, sampler):
    paint = [
        pixels(client.predict(sampler, count=2, seed=seed, api_name="/generate")[0])
        for seed in (5, 5, 6)
    ]
    assert np.array_equal(paint[0], paint[1])
    assert not np.array_equal(paint[0], paint[2])


def test_an_empty_seed_is_drawn_and_told(client):
    image, numbers = client.predict(count=2, seed=None, api_name="/generate")
    again, _ = client.predict(count=2, seed=numbers["seed"], api_name="/generate")
    _, other = client.predict(count=2, seed=None, api_name="/generate")
    assert 0 <= numbers["seed"] <= MAX_SEED and other["seed"] != numbers["seed"]
    assert np.array_equal(pixels(image), pixels(again))


def test_class_names_choose_the_labels(client, pipe):
    name = pipe.class_names[-1]
    image, numbers = client.predict(class_name=name, count=2, api_name="/generate")
    label = len(pipe.class_names) - 1
    expected = pipe.sample_one_step([label, label], seed=0).images
    assert numbers["classes"] == [name, name]
    assert np.array_equal(pixels(image), np.asarray(present.grid(expected)))


def test_the_teachers_settings_reach_the_teacher(client):
    greedy = [
        pixels(client.predict("teacher", count=2, seed=seed, top_k=1, api_name="/generate")[0])
        for seed in (1, 2)
    ]
    assert np.array_equal(greedy[0], greedy[1])  # top-k 1 leaves nothing to chance


HOSTILE = [
    {"class_name": "Unicorn"},
    {"class_name": None},
    {"class_name": ["Bag"]},
    {"class_name": 3},
    {"class_name": "<script>alert(1)</script>" * 1000},
    {"count": 0},
    {"count": -1},
    {"count": 65},
    {"count": 10_000},
    {"count": 1e300},
    {"count": 2.5},
    {"count": "8"},
    {"count": None},
    {"count": True},
    {"seed": -1},
    {"seed": 0.5},
    {"seed": 2**32},
    {"seed": 10**400},
    {"seed": "nan"},
    {"seed": ""},
    {"seed": {"a": 1}},
    {"seed": False},
    {"cfg": -0.1},
    {"cfg": 1e9},
    {"cfg": "strong"},
    {"temperature": 0},
    {"temperature": 10**400},
    {"temperature": []},
    {"top_k": -1},
    {"top_k": 1.5},
    {"top_k": 10**6},
    {"top_p": 0},
    {"top_p": 1.01},
    {"top_p": {}},
]


@pytest.mark.parametrize("wrong", HOSTILE, ids=lambda wrong: str(wrong)[:40])
@pytest.mark.parametrize("endpoint", ["/compare", "/generate"])
def test_wrong_input_gets_one_sentence(client, endpoint, wrong, capfd):
    with pytest.raises(AppError) as caught:
        client.submit(api_name=endpoint, **wrong).result()
    said, log = str(caught.value), capfd.readouterr()
    assert is_one_sentence(said), said
    assert "Traceback" not in log.out + log.err


def test_unknown_sampler_gets_one_sentence(client, capfd):
    for wrong in ("fast", None, ["teacher"]):
        with pytest.raises(AppError) as caught:
            client.predict(wrong, api_name="/generate")
        assert is_one_sentence(str(caught.value))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", range(1, 7))
def test_numbers_that_are_none_get_one_sentence(url, number, place, capfd):
    """As raw JSON: gradio_client itself will not send them."""
    values = ['"All classes"', "8", "0", "1.5", "1", "0", "1", "null"]
    values[place] = number
    body = f'{{"data": [{", ".join(values)}]}}'.encode()
    post = urllib.request.Request(f"{url}/gradio_api/call/compare", body)
    post.add_header("Content-Type", "application/json")
    try:
        event = json.load(urllib.request.urlopen(post))["event_id"]
        answer = urllib.request.urlopen(f"{url}/gradio_api/call/compare/{event}").read().decode()
    except urllib.error.HTTPError as error:  # the web server may refuse what is no JSON
        assert error.code in (400, 422)
        return
    assert "event: error" in answer
    assert is_one_sentence(json.loads(answer.split("data: ")[1])["error"])
    assert "Traceback" not in capfd.readouterr().err


def is_one_sentence(text: str) -> bool:
    """One line that ends in its only full stop, and short enough to read."""
    plain = "Traceback" not in text and "Error" not in text
    return plain and "\n" not in text and bool(re.fullmatch(r"[A-Z].{10,300}\.", text))


def test_a_refusal_of_the_pipeline_is_passed_on(client, pipe, monkeypatch, capfd):
    from dd2core import DD2Error

    def refuse(*_, **__):
        raise DD2Error("The model has no generator.")

    monkeypatch.setattr(pipe, "sample_one_step", refuse)
    with pytest.raises(AppError, match="^The model has no generator.$"):
        client.predict(api_name="/generate")
    assert "Traceback" not in capfd.readouterr().err


def test_the_endpoints_are_documented_and_every_argument_is_optional(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    asked = ["class_name", "count", "seed", "cfg", "temperature", "top_k", "top_p", "model"]
    expected = {
        "/compare": asked, "/generate": ["sampler", *asked],
        "/interpolate": ["class_name", "seed_a", "seed_b", "count", "model"],
    }
    assert set(endpoints) == set(expected)
    for name, endpoint in endpoints.items():
        assert len(endpoint["description"]) > 20
        assert all(p["parameter_has_default"] for p in endpoint["parameters"])
        assert [p["parameter_name"] for p in endpoint["parameters"]] == expected[name]


def test_long_runs_queue_up_in_one_line(pipe):  # page and programs, so that memory stays flat
    fns = [fn for fn in build_page(Models.of(pipe)).fns.values() if fn.queue and fn.fn
           and fn.targets[0][1] != "unload"]  # which never waits
    free = [fn.fn.__name__ for fn in fns if fn.concurrency_limit is None]
    assert free == ["open_view"]  # paints nothing
    lines = {(fn.concurrency_id, fn.concurrency_limit) for fn in fns if fn.concurrency_limit}
    assert lines == {("sampler", 1)} and len(fns) >= 7


def test_the_page_shows_every_name_as_text_and_writes_the_seed_back(pipe):
    tab = CompareTab(Models.of(pipe))
    with gr.Blocks():
        tab.build(Shared(tab.models))
    parts = list(tab.paint(None, None, None, "All classes", 4, None, None, None, None, None))
    assert 0 <= (seed := parts[0][-3]) <= MAX_SEED and f"seed={seed}" in parts[0][-2]
    assert all(part[-3:-1] == (gr.skip(), gr.skip()) for part in parts[1:])  # typing stays
    assert "dd2-done" in parts[-1][0] and "×" in parts[-1][0]
    image = pipe.sample_one_step([0]).images
    shown = present.tiles(image, ['<img src=x onerror="alert(1)">'], "one step")
    assert shown.count("<img") == 1 and "&lt;img src=x" in shown


@pytest.mark.parametrize(("count", "across"), [(1, 1), (2, 2), (4, 2), (8, 4), (9, 3), (16, 4)])
def test_a_grid_holds_every_image_unblurred(count, across):
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
    sheet = np.asarray(present.grid(images))
    size = 4 * 28 + present.GAP  # 28 pixels are enlarged to 112
    assert sheet.shape[1] == across * size - present.GAP
    for i, image in enumerate(images):
        row, column = divmod(i, across)
        tile = sheet[row * size :, column * size :][:112, :112]
        assert np.array_equal(tile[::4, ::4], image) and np.array_equal(tile[3::4, 3::4], image)


def test_ratios_and_times_are_readable():
    assert [present.times(r) for r in (0.9, 11.34, 238.4)] == ["0.90×", "11.3×", "238×"]
    assert [present.duration(s) for s in (0.01234, 0.1234, 1.5)] == ["12.3 ms", "123 ms", "1.50 s"]


def test_the_page_refers_to_no_other_host(url):
    html = urllib.request.urlopen(url).read().decode()
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']([^\"']+)", html)
    assert loaded
    assert not [ref for ref in loaded if re.match(r"(https?:)?//", ref) and url not in ref]
    css = urllib.request.urlopen(f"{url}/theme.css").read().decode()
    assert "--font" in css and "@import" not in css
    assert not re.search(r"url\([\"']?(https?:)?//", css)
