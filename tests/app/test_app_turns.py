"""Turns on the machine: clocks undisturbed, CPU threads as they were, no endless line."""

import threading

import pytest
import torch

from app.serve import turns
from app.serve.turns import THREADS, turn
from dd2core import DD2Error
from dd2core.tools.timing import cpu_threads


def in_new_thread(task):
    """What `task` returns in a thread of its own."""
    got = []
    worker = threading.Thread(target=lambda: got.append(task()))
    worker.start()
    worker.join()
    return got[0]


def test_a_new_worker_has_all_threads_though_another_runs_on_one():
    def in_turn() -> int:
        with turn():
            return torch.get_num_threads()

    other = THREADS + 1  # whatever another worker has just set
    with cpu_threads(other):
        assert in_new_thread(torch.get_num_threads) == other  # so it would be
        assert in_new_thread(in_turn) == THREADS


@pytest.fixture
def held():
    """Somebody's turn that lasts."""
    with turn():
        yield


def test_who_skips_the_queue_is_refused_once_many_wait(held, monkeypatch):
    monkeypatch.setattr(turns, "_ROOM", threading.BoundedSemaphore(1))
    monkeypatch.setattr(turns, "PATIENCE", 5.0)
    assert turns._ROOM.acquire(blocking=False)  # one waits already
    with pytest.raises(DD2Error, match="busy.* moment"), turn(live=True):
        pass
    turns._ROOM.release()


def test_a_turn_that_does_not_come_is_one_sentence_and_frees_its_place(held, monkeypatch):
    monkeypatch.setattr(turns, "_ROOM", threading.BoundedSemaphore(1))
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    for _ in range(2):
        with pytest.raises(DD2Error, match="busy.* minute"), turn(live=True):
            pass


def test_turns_follow_each_other():
    for live in (True, False, True):
        with turn(live):
            pass
