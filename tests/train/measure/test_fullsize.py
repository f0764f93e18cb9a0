"""`train.fullsize`: each part of a preset in a process of its own."""

import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dd2core.store.files import read_json
from tests.support.train_helpers import cli
from train import fullsize
from train.measure import timing
from train.results import steps

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
    assert "batches=[4, 0]" in cli("fullsize", "batches=[4,0]")
    assert "passes=-1" in cli("fullsize", "passes=-1")
    assert "training=warm is unknown" in cli("fullsize", "model=tiny", "training=gts,warm")
    if not torch.cuda.is_available():
        assert "device=cuda is not on this machine" in cli("fullsize", "device=cuda")
    assert "There is no preset 'x'" in cli("fullsize", "model=x")
    assert "Setting modell" in cli("fullsize", "modell=x")


# On a GPU --------------------------------------------------------------------------------------

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_on_a_gpu_a_call_warms_up_and_the_device_is_waited_for(monkeypatch):
    told = []
    monkeypatch.setattr(timing, "synchronise", lambda device: told.append("wait"))
    assert len(timing.settled(lambda: told.append("call"), 3, GPU)) == 3
    assert told == ["wait", "call", "wait"] * 4
    told.clear()
    assert len(timing.settled(lambda: told.append("call"), 3, CPU)) == 3
    assert told.count("call") == 3
    assert timing.typical([5.0, 1.0, 2.0], GPU) == 2.0
    assert timing.typical([5.0, 1.0, 2.0], CPU) == 1.0


def test_every_batch_has_its_table_and_all_are_kept(monkeypatch, capsys, tmp_path):
    seen = []

    def fresh(o, part):
        seen.append((part, o.batch, o.bf16))
        return {"parameters": 1e6, "passes": 7, "seconds": 0.01234, "peak_mib": 64, "threads": 1}

    monkeypatch.setattr(fullsize, "fresh", fresh)
    out = tmp_path / "found.json"
    fullsize.run(fullsize.FullSize(model="tiny", batches=[1, 8], bf16=True, out=str(out)))
    said = capsys.readouterr().out
    assert seen == [(part, n, True) for n in (1, 8) for part in PARTS]
    assert said.count("| seconds |") == 2 and "0.0123" in said and "bfloat16 autocast" in said
    rows = read_json(out)["rows"]
    assert [(r["part"], r["batch"]) for r in rows] == [(p, n) for n in (1, 8) for p in PARTS]


@pytest.mark.parametrize("part", PARTS)
def test_autocast_reaches_every_part(part):
    kinds = set()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            out = op(*args, **(kwargs or {}))
            kinds.update({out.dtype} if isinstance(out, torch.Tensor) else set())
            return out

    for bf16 in (False, True):
        kinds.clear()
        with Seen():
            fullsize.measure(fullsize.FullSize(model="tiny", part=part, bf16=bf16, repeats=1))
        assert (torch.bfloat16 in kinds) == bf16


def test_real_steps_stand_beside_their_plan(capsys):
    assert cli("fullsize", "model=tiny", "training=gts,csd", "repeats=1", "threads=1") is None
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()
            if line.startswith("| `tiny`")]
    assert [row[1].strip() for row in rows] == ["GTS, whole", "CSD"]
    assert all(row[2].strip() == "8 × 1" and float(row[6]) > 0 for row in rows)
    assert all(len(row) == steps.HEAD.splitlines()[0].count("|") - 1 for row in rows)


@pytest.mark.parametrize("name, stage, images, passes", [
    ("var-d16", "gts", 16, 4), ("llamagen-l", "csd", 16, 8)])
def test_one_gpus_share_has_the_images_of_a_pass(name, stage, images, passes):
    for asked, expected in ((2, 2), (0, passes), (99, passes)):
        cfg = steps.of_one_gpu(name, stage, asked)
        o = getattr(cfg, stage)
        assert (o.batch, o.accumulate, cfg.processes) == (images * expected, expected, 1)
    head = [("GTS, head", 0, 1)] if stage == "gts" else []
    assert list(steps.parts(cfg, stage))[:1] == (head or [("CSD", 0, 0)])
