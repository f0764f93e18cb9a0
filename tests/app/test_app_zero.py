"""Where the GPU is lent per call: what is asked for, and that all that travels can travel."""

import inspect
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from app import zero
from app.requests import read_request
from app.serve.clocks import LEAST
from app.serve.runs import Samplers
from dd2core import Pipeline
from tests.support import tiny


def travels(thing):
    """Through a pipe to another process and back."""
    return pickle.loads(pickle.dumps(thing))


@pytest.fixture
def asked(monkeypatch):
    """The seconds asked for, in order; `spaces` is replaced by one that pickles as ZeroGPU does."""
    seconds = []

    def lend(task, duration):
        def one(*arguments):
            seconds.append(duration(*arguments))
            return travels(task(*travels(arguments)))

        def many(*arguments):
            seconds.append(duration(*arguments))
            yield from map(travels, task(*travels(arguments)))

        return many if inspect.isgeneratorfunction(task) else one

    monkeypatch.setattr(zero, "spaces", SimpleNamespace(GPU=lend))
    return seconds


def test_without_spaces_nothing_is_wrapped():
    assert zero.spaces is not None or zero.on_gpu(len, lambda _: 1) is len


def test_every_sampler_works_through_a_lent_gpu(asked):
    pipe = Pipeline(tiny.model())
    lent = Samplers(pipe)
    few, many = (read_request(pipe, "cat", n, 3, *[None] * 4) for n in (1, 3))
    painted = lent.one_step(few).images
    assert np.array_equal(painted, pipe.sample_one_step([0], seed=3).images)
    *_, last = lent.teacher(many, 2)
    assert last.done and np.array_equal(last.images, pipe.sample_teacher([0] * 3, seed=3).images)
    *_, (one, teacher) = lent.measure(few, 0.1)
    assert min(one.readings, teacher.readings) >= LEAST and one.low <= one.median.seconds
    assert lent.refine(few, pipe.teacher.num_steps - 2).passes == 3
    assert len(lent.morph([0, 1], 1, 2, [0.0, 1.0]).images) == 2
    assert lent.examine(1, 0, 2, 0.5).place == 2
    one, three, *_ = asked
    assert len(asked) == 6 and one < three and all(0 < s <= 60 for s in asked)  # by batch
