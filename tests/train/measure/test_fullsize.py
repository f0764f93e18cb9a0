"""`train.fullsize`: each part of a preset in a process of its own."""

import json

import pytest

from tests.support.train_helpers import cli
from train import fullsize

PARTS = {"teacher": ([2, 16], 16), "one_step": ([2, 16], 1), "decode": ([2, 3, 16, 16], 1)}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_tells_its_time_and_memory(part, capsys):
    assert cli("fullsize", "model=tiny", "batch=2", f"part={part}", "threads=1") is None
    found = json.loads(capsys.readouterr().out)
    assert (found["shape"], found["passes"]) == PARTS[part]
    assert 0 < found["seconds"] < 60 and found["peak_mib"] > 50 and found["parameters"] > 1000


def test_all_parts_make_a_table(monkeypatch, capsys):
    seen = []

    def fresh(o, part):
        seen.append(part)
        return {"parameters": 111e6, "passes": 7, "seconds": 1.5, "peak_mib": 2048, "threads": 2}

    monkeypatch.setattr(fullsize, "fresh", fresh)
    fullsize.run(fullsize.FullSize(model="tiny", batch=3))
    said = capsys.readouterr().out
    assert seen == list(PARTS) and "N = 3" in said
    assert "| one-step generator | 111 M | 7 | 1.50 | 2.0 GiB |" in said


def test_a_process_of_its_own_answers():
    found = fullsize.fresh(fullsize.FullSize(model="tiny", threads=1), "decode")
    assert found["shape"] == [1, 3, 16, 16]


def test_mistakes_are_one_sentence():
    assert "part=x is unknown" in cli("fullsize", "part=x")
    assert "batch=0" in cli("fullsize", "batch=0")
    assert "There is no preset 'x'" in cli("fullsize", "model=x")
    assert "Setting modell" in cli("fullsize", "modell=x")
