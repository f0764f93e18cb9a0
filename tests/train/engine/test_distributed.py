"""Several processes: shares of a batch, averaged gradients, one writer; once with real torchrun."""

import os
import subprocess
import sys

import pytest
import torch

from dd2core.errors import DD2Error
from tests.support.forked import forked
from tests.support.train_helpers import GREY, cli, log_steps
from train.all import launcher
from train.engine import distributed
from train.settings.cli import ROOT
from train.settings.schema import Stage


def share(rank: int) -> None:
    """Every collective, in one of two processes."""
    d = distributed
    d.start(torch.device("cpu"))
    assert d.rank() == rank and d.world() == 2 and d.is_main() == (rank == 0)
    assert d.own_part().take(torch.arange(6)).tolist() == [rank, rank + 2, rank + 4]
    m = torch.nn.Linear(2, 2)
    m.weight.grad = torch.full((2, 2), float(rank))
    m.bias.grad = torch.tensor([1.0 + 2 * rank, 10.0])
    d.average_gradients(m)
    assert (m.weight.grad == 0.5).all() and m.bias.grad.tolist() == [2.0, 10.0]
    assert d.average({"a": float(rank), "b": 3.0}, torch.device("cpu")) == {"a": 0.5, "b": 3.0}
    assert d.gather({rank: "x" * (rank + 1)}) == {0: "x", 1: "xx"}
    d.check_batch("adapt_fit", Stage(batch=5))  # which divides nothing
    for refused in (lambda: d.check_batch("gts", Stage(batch=5)),
                    lambda: d.check_batch("gts", Stage(batch=6, accumulate=2)),
                    lambda: d.single_process("tokenizer")):
        with pytest.raises(DD2Error):
            refused()


def torchrun(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *words], cwd=ROOT, env=env, capture_output=True, text=True)


def test_two_processes_share_average_and_gather(tmp_path):
    for code, said in forked(tmp_path, share):
        assert code == 0, said


def test_a_stage_trains_in_two_processes_and_one_of_them_writes(tmp_path):
    assert cli("tokenizer", *GREY, f"out={tmp_path}") is None
    done = torchrun("-m", "train.teacher", *GREY, f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert log_steps(tmp_path / "teacher") == [1, 2, 3, 4, 5, 6]
    assert "nats per token" in done.stdout
    assert (tmp_path / "teacher" / "teacher.safetensors").is_file()


def test_alone_nothing_is_divided():
    assert distributed.world() == 1 and distributed.is_main()
    assert distributed.own_part().take(torch.arange(5)).tolist() == [0, 1, 2, 3, 4]
    distributed.single_process("tokenizer")


@pytest.mark.parametrize("stage, processes, parallel", [
    ("teacher", 2, True), ("tune", 2, True), ("teacher", 1, False), ("tokenizer", 2, True),
    ("classifier", 2, False)])
def test_train_all_gives_processes_to_the_stages_that_can_use_them(stage, processes, parallel):
    words, environment = launcher(stage, processes)
    assert words[-1] == f"train.{stage}" and ("torch.distributed.run" in words) == parallel
    assert not parallel or "OMP_NUM_THREADS" in environment


@pytest.mark.parametrize("batch, passes", [(5, 1), (12, 8), (2, 2)])
def test_a_batch_that_does_not_divide_into_processes_and_passes_is_refused(
        batch, passes, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    distributed.check_batch("gts", Stage(batch=2 * passes * batch, accumulate=passes))
    with pytest.raises(DD2Error, match=f"^gts.batch={batch} does not divide into 2 processes × "
                                       f"gts.accumulate={passes} passes: change one.$"):
        distributed.check_batch("gts", Stage(batch=batch, accumulate=passes))


def test_it_is_refused_before_anything_is_written(tmp_path):
    assert cli("tokenizer", *GREY, f"out={tmp_path}") is None
    stopped = cli("teacher", *GREY, f"out={tmp_path}", "teacher.accumulate=3")
    assert stopped.startswith("error: teacher.batch=8 does not divide into 1 processes")
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize("word", ["accumulate=2", "checkpoint_blocks=true"])
def test_stages_in_one_pass_refuse_what_they_would_not_do(word, tmp_path):
    stopped = cli("tokenizer", *GREY, f"out={tmp_path}", f"tokenizer.{word}")
    assert "error: tokenizer" in stopped and word.split("=")[0] in stopped
    assert not list(tmp_path.iterdir())
