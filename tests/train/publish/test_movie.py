"""The moving picture of both samplers."""

import io

import numpy as np
import pytest
from PIL import Image

from dd2core.pipeline import Pipeline
from tests.support import tiny
from train.publish import gif
from train.publish.gif import Progress, frames, movie, panel, race, record, veiled

SHAPE = (4, 16, 16, 1)


def progress(value: int, seconds: float, step: int, steps: int) -> Progress:
    return Progress(np.full(SHAPE, value, np.uint8), seconds, step, steps)


@pytest.fixture
def short():
    """One step after 0.1 s; a teacher of three steps in 0.5 s."""
    teacher = [progress(80 * k, s, k, 3) for k, s in ((1, 0.05), (2, 0.25), (3, 0.5))]
    return progress(255, 0.1, 1, 1), teacher


def test_what_is_recorded_is_what_the_samplers_paint(tiny_pipe, monkeypatch):
    monkeypatch.setattr(gif, "ROUNDS", 2)
    one, teacher = record(tiny_pipe, [0, 1, 2])
    assert np.array_equal(one.images, tiny_pipe.sample_one_step([0, 1, 2], gif.SEED).images)
    final = tiny_pipe.sample_teacher([0, 1, 2], gif.SEED).images
    assert np.array_equal(teacher[-1].images, final)
    assert [p.step for p in teacher] == list(range(1, tiny_pipe.teacher.num_steps + 1))
    times = [p.seconds for p in teacher]
    assert times == sorted(times) and one.seconds > 0


def test_every_step_is_shown_for_its_time_slowed_down(short):
    pictures, lasts = frames(*short, [(0, 1), (1, 5), (5, 14)])
    slow = gif.LENGTH / 0.5
    assert lasts == [round(1e3 * slow * s) for s in (0.05, 0.05, 0.06, 0.09, 0.25)] + [gif.HOLD_MS]
    zoom = -(-gif.SIDE // 16)
    left = [int(p.convert("L").getpixel((8, 44 + 8))) for p in pictures]
    right = [int(p.convert("L").getpixel((4 * (16 * zoom + 4) - 4 + 32 + 8, 44 + 8)))
             for p in pictures]
    bare = right[0]
    assert left == [bare, bare, 255, 255, 255, 255] and right[1:] == [80, 80, 80, 160, 240]
    framed = [p.getpixel((1, 44 + 1)) == (13, 148, 136) for p in pictures]
    assert framed == [False, False, True, False, False, False]  # the moment at which one step ends


@pytest.mark.parametrize("step, newest, painted", [(1, (0, 0), 1), (6, (1, 1), 6), (16, None, 16)])
def test_the_newest_token_is_outlined_and_what_is_unpainted_hatched(step, newest, painted):
    """Of 4×4 tokens, at 20 pixels each."""
    out = veiled(Image.new("RGB", (80, 80), "#123456"), [(i, i + 1) for i in range(16)], step)
    pixels = np.asarray(out).reshape(4, 20, 4, 20, 3).transpose(0, 2, 1, 3, 4)
    own = (pixels == (0x12, 0x34, 0x56)).all(-1)[:, :, 4:-4, 4:-4].all((2, 3)).reshape(-1)
    assert own.tolist() == [i < painted for i in range(16)]
    edge = (pixels == (0xb4, 0x53, 0x09)).all(-1)[:, :, 0].all(-1)
    assert [tuple(map(int, at)) for at in np.argwhere(edge)] == ([newest] if newest else [])


def test_a_scale_is_outlined_as_a_whole():
    out = veiled(Image.new("RGB", (80, 80), "#123456"), [(0, 1), (1, 5)], 1)
    assert out.getpixel((0, 40)) == out.getpixel((40, 79)) == (0xb4, 0x53, 0x09)
    assert out.getpixel((40, 40)) == (0x12, 0x34, 0x56)


def test_a_race_in_colour_keeps_its_colours(monkeypatch):
    monkeypatch.setattr(gif, "ROUNDS", 1)
    pipe = Pipeline(tiny.model(channels=3))
    data, one, _ = race(pipe)
    file = Image.open(io.BytesIO(data))
    file.seek(file.n_frames - 1)
    last = np.asarray(file.convert("RGB"))
    zoom = -(-gif.SIDE // 16)
    shown = last[44:44 + 16 * zoom, :16 * zoom][::zoom, ::zoom].astype(int)
    assert np.abs(shown - one.images[0]).mean() < 8  # 256 colours for twenty pictures


def test_a_clock_stops_at_the_end(short):
    one, _ = short
    stopped, later = (panel("DD2", gif.TEAL, now, one, one) for now in (0.1, 0.3))
    before = panel("DD2", gif.TEAL, 0.06, one, one)
    assert stopped.tobytes() == later.tobytes() != before.tobytes()


def test_the_file_is_an_endless_gif_of_all_frames(short):
    pictures, milliseconds = frames(*short, [(0, 1), (1, 5), (5, 14)])
    file = Image.open(io.BytesIO(movie(pictures, milliseconds, 1)))
    assert file.format == "GIF" and file.n_frames == len(pictures) and file.info["loop"] == 0
    shown = []
    for i in range(file.n_frames):
        file.seek(i)
        shown.append(file.info["duration"])
    assert shown == [10 * (ms // 10) for ms in milliseconds]
