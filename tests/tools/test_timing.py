"""Every sampler runs on the count of CPU threads that suits it."""

import time

import pytest
import torch

from app.html import present
from app.serve.runs import Run
from dd2core.tools import timing as threads
from dd2core.tools.timing import best_threads, cpu_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    with cpu_threads(2):
        yield


def runner(one: float, two: float, first: float = 0.0):
    """A run that takes `one` seconds on one thread, `two` on two, `first` more the first time."""
    calls = []

    def run():
        calls.append(torch.get_num_threads())
        time.sleep((one if calls[-1] == 1 else two) + first * (len(calls) == 1))
    return run, calls


def test_the_count_lasts_as_long_as_the_block():
    with cpu_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), cpu_threads(1):
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("one, two, best", [(0.0, 0.04, 1), (0.04, 0.0, 2)])
def test_the_faster_count_is_taken_and_the_first_call_is_not_counted(one, two, best):
    run, calls = runner(one, two, first=0.1)
    assert best_threads(run, CPU) == best
    assert calls == [2] + [2, 1] * threads.READINGS  # warm-up, then both in turns


def test_one_disturbed_reading_does_no_harm():
    run, calls = runner(0.02, 0.01)

    def disturbed():
        run()
        time.sleep(0.05 * (len(calls) == 2))  # the first of two threads
    assert best_threads(disturbed, CPU) == 2


@pytest.mark.parametrize("device, count, patience", [
    ("cuda", 2, 1.0), ("cpu", 1, 1.0), ("cpu", 2, 0.0),
])
def test_nothing_is_tried_where_there_is_nothing_to_choose(device, count, patience, monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", patience)
    run, calls = runner(0.0, 0.001)
    with cpu_threads(count):
        assert best_threads(run, torch.device(device)) == count
    assert calls == [count]


def test_the_footnote_names_the_threads_where_they_differ():
    info = {"model": "m", "device": "cpu", "dtype": "float32", "threads": 4}
    runs = [Run(None, 1, 1, 1, 0.1, 0.1, 0.2, threads) for threads in (4, 1)]
    assert "4 CPU threads</p>" in present.footnote(info, 2)
    assert "4 CPU threads</p>" in present.footnote(info, 2, runs[0], runs[0])
    assert "4 CPU threads (one step 4, teacher 1: faster so)" in present.footnote(info, 2, *runs)
