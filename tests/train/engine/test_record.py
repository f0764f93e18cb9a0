"""Numbers of the log beside the metrics, the boards that show them, and old snapshots."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch

from tests.support.train_helpers import config, copy_stages, grey, log_steps
from tests.train.engine.test_loop import stops_at
from train.engine.record import meter
from train.engine.record.meter import TIMES, Meter, peak_flops, usual_flops
from train.engine.run_folder import Run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run up to gts, stopped in its fifth step and gone on with, at a peak of 1 GFLOP/s."""
    out = tmp_path_factory.mktemp("run")
    for stage in ("tokenizer", "teacher"):
        assert grey(stage, out) is None
    with stops_at(4):
        grey("gts", out, "peak_flops=1e9")
    assert grey("gts", out, "peak_flops=1e9") is None
    return out


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_log_has_rates_and_grows_over_a_resume(run):
    found = lines(run / "gts")
    assert log_steps(run / "gts") == [1, 2, 3, 4, 5, 6]
    for key in ("step", "seconds", "images"):
        assert all(a[key] <= b[key] for a, b in zip(found, found[1:], strict=False)), key
    for line in found:
        assert line["lr"] > 0 and line["images_per_s"] > 0 and line["memory_gib"] > 0.05
        each = config().gts.batch / line["images_per_s"]
        assert line["eta_s"] == pytest.approx(each * (6 - line["step"]), rel=1e-3)
        assert line["mfu"] == pytest.approx(usual_flops(config(), "gts") / 1e9 / each, rel=1e-3)
    assert all(k not in line for k in ("mfu",) for line in lines(run / "teacher"))  # no model of it


def test_without_a_known_peak_there_is_no_mfu(monkeypatch):
    assert peak_flops(config(), CPU) is None and peak_flops(config("peak_flops=5"), CPU) == 5
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert peak_flops(config(), torch.device("cuda")) == 989e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Unheard of")
    assert peak_flops(config(), torch.device("cuda")) is None
    one = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    assert set(Meter(config(), "gts", CPU, 0, True).numbers(1, {"a": one, "b": one})) == {
        "lr", "lr_b", *TIMES} - {"mfu"}


def test_operations_of_a_step_are_divided_among_the_processes(monkeypatch):
    one = usual_flops(config(), "csd")
    monkeypatch.setattr(meter.distributed, "world", lambda: 2)
    assert usual_flops(config(), "csd") == pytest.approx(one / 2, rel=0.1)


def test_wandb_gets_the_log_and_is_a_sentence_where_it_is_missing(run, tmp_path, monkeypatch):
    seen = []
    board = types.SimpleNamespace(log=lambda numbers, step: seen.append((step, numbers)),
                                  finish=lambda: seen.append("finished"))
    fake = types.ModuleType("wandb")
    fake.init = lambda **words: seen.append(words) or board
    out = copy_stages(run, tmp_path, "tokenizer", "tokens", "teacher")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert grey("gts", out, "wandb=true") is None
    first, *logged, last = seen
    assert first["resume"] == "allow" and first["config"]["gts"]["steps"] == 6
    assert last == "finished" and [step for step, _ in logged] == [1, 2, 3, 4, 5, 6]
    for line, (_, numbers) in zip(lines(out / "gts"), logged, strict=True):
        assert numbers["gts/loss"] == pytest.approx(line["loss"], rel=1e-5)
    monkeypatch.setitem(sys.modules, "wandb", None)
    stopped = grey("tokenizer", tmp_path / "x", "wandb=true")
    assert stopped == "error: wandb=true needs the package: pip install wandb."


@pytest.mark.parametrize("words, left", [
    ((), [2, 4, 6, 8, 10]), (("keep_snapshots=2",), [8, 10]), (("keep_snapshots=9",), [2, 4, 6, 8,
                                                                                    10]),
    (("keep_snapshots=1", "csd.steps=10", "csd.grid_every=4", "csd.average=[4,8]"), [4, 8, 10])])
def test_old_snapshots_go_but_for_those_to_be_averaged(tmp_path, words, left):
    cfg = config(f"out={tmp_path}", "csd.average=null", *words)
    (tmp_path / "csd").mkdir()
    paths = [tmp_path / "csd" / f"generator-{i:06d}.safetensors" for i in (2, 4, 6, 8, 10)]
    for path in (*paths, tmp_path / "csd" / "generator.safetensors"):
        path.touch()
    Run(cfg, "csd").prune_snapshots(cfg.csd)
    assert [i for i, path in zip((2, 4, 6, 8, 10), paths, strict=True) if path.exists()] == left
    assert (tmp_path / "csd" / "generator.safetensors").exists()
