"""The moving picture of both samplers."""

import io

import numpy as np
import pytest
from PIL import Image

from dd2core.tools import images
from train.publish import gif
from train.publish.gif import Progress, frames, panel, record

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
    pictures, lasts = frames(*short)
    slow = gif.LENGTH / 0.5
    assert lasts == [round(1e3 * slow * s) for s in (0.05, 0.05, 0.15, 0.25)] + [gif.HOLD_MS]
    zoom = -(-gif.SIDE // 16)
    left = [int(p.convert("L").getpixel((8, 44 + 8))) for p in pictures]
    right = [int(p.convert("L").getpixel((4 * (16 * zoom + 4) - 4 + 32 + 8, 44 + 8)))
             for p in pictures]
    assert left == [0, 0, 255, 255, 255] and right == [0, 80, 80, 160, 240]


def test_a_clock_stops_at_the_end(short):
    one, _ = short
    stopped, later = (panel("DD2", gif.TEAL, now, one, one) for now in (0.1, 0.3))
    before = panel("DD2", gif.TEAL, 0.06, one, one)
    assert stopped.tobytes() == later.tobytes() != before.tobytes()


def test_the_file_is_an_endless_gif_of_all_frames(short):
    pictures, milliseconds = frames(*short)
    file = Image.open(io.BytesIO(images.gif(pictures, milliseconds, gif.COLOURS)))
    assert file.format == "GIF" and file.n_frames == len(pictures) and file.info["loop"] == 0
    shown = []
    for i in range(file.n_frames):
        file.seek(i)
        shown.append(file.info["duration"])
    assert shown == [10 * (ms // 10) for ms in milliseconds]
