"""Processes that must agree, live and share states; forked, with torchrun's variables and gloo."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor

from dd2core.errors import DD2Error
from dd2core.store.state import load_state
from tests.support.forked import forked, started
from tests.support.train_helpers import GREY, cli, config, copy_stages, grey, log_steps
from tests.train.engine.test_sharding import assert_same_state
from train.engine import distributed, loop
from train.engine.processes import guard, heartbeat, parts
from train.measure import stream

CPU = torch.device("cpu")
WORDS = ("csd.form=sid", "csd.start=gts", "csd.pair_share=0", "csd.save_every=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of one process up to csd."""
    out = tmp_path_factory.mktemp("whole")
    for stage in ("tokenizer", "teacher", "gts", "csd"):
        assert grey(stage, out, *WORDS) is None
    return out


# Start-up -------------------------------------------------------------------------------------

def differ(rank: int, out: Path) -> None:
    """Each refusal, in both processes, and what is not refused."""
    distributed.start(CPU)
    module = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(module.bias, rank)
    said = []
    for refused in (lambda: guard.check_weights(5, {"model": module}),
                    lambda: guard.check_weights(rank, {}),
                    lambda: guard.check_alike("x", {"a": 1} if rank else {}, "y")):
        with pytest.raises(DD2Error) as error:
            refused()
        said.append(str(error.value))
    with pytest.raises(DD2Error, match="only the second"), guard.together():
        if rank == 1:
            raise DD2Error("only the second")
    guard.spread_first(module)
    assert (module.bias == 0).all()
    guard.check_weights(5, {"model": module})
    (out / f"said-{rank}.json").write_text(json.dumps(said))
    distributed.leave()
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    stopped = grey("teacher", out / f"run-{rank % 2}", "threads=1")
    assert stopped.startswith("error: "), stopped
    raise SystemExit(stopped)


def test_processes_that_differ_stop_with_one_sentence(tmp_path):
    done = forked(tmp_path, differ, tmp_path, seconds=200)  # less than the time that one waits
    said = [json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0] == said[1]
    assert "weights of model=" in said[0][0] and "step=" not in said[0][0]
    assert "step=0 in process 0 and step=1 in process 1" in said[0][1]
    for code, words in done:  # two folders
        assert code == 1
        last = words.strip().splitlines()[-1]
        assert last.startswith("error: The processes differ in their settings: out=")
        assert "run-0 in process 0 and out=" in last and "run-1 in process 1: start all" in last
    assert not (tmp_path / "run-0").exists() and not (tmp_path / "run-1").exists()


@pytest.mark.parametrize("variables, refused", [
    ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, True), ({"PMI_SIZE": "4"}, True),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, True), ({"SLURM_NTASKS": "1"}, False),
    ({"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "1"}, False),
    ({"SLURM_NTASKS": "2", "RANK": "0", "WORLD_SIZE": "2"}, False)])
def test_a_task_of_srun_without_torchrun_is_refused(variables, refused, monkeypatch, tmp_path):
    for name in (*guard.TASKS, "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if not refused:
        return guard.check_launch()
    for stage in ("tokenizer", "all"):
        stopped = cli(stage, *GREY, f"out={tmp_path / 'x'}")
        assert stopped.startswith("error: This is one of") and "torchrun" in stopped
    assert not (tmp_path / "x").exists()


# Signs of life --------------------------------------------------------------------------------

def wait_for_the_other(rank: int, folder: Path) -> None:
    distributed.start(CPU, 600)
    if rank == 0:
        heartbeat.LONGEST = 5.0
    (folder / f"here-{rank}").touch()
    distributed.total(torch.ones(1)) if rank == 0 else time.sleep(600)


def one_is_long(rank: int) -> None:
    """The second works for longer than the silence that is allowed, then both go on."""
    heartbeat.LONGEST = 2.0
    distributed.start(CPU, 600)
    time.sleep(4.0 * rank)
    assert distributed.total(torch.ones(1)) == 2
    time.sleep(3.0 * (1 - rank))  # the second has left by then


def beats_of_two_seconds(rank: int, folder: Path) -> None:
    heartbeat.LONGEST = 2.0
    wait_for_the_other(rank, folder)


def test_a_stopped_process_ends_the_run_with_a_sentence(tmp_path):
    with started(tmp_path, beats_of_two_seconds, tmp_path) as (first, second):
        while not all((tmp_path / f"here-{rank}").exists() for rank in (0, 1)):
            time.sleep(0.05)
        time.sleep(1)
        os.kill(second.pid, signal.SIGSTOP)
        first.join(200)
        assert first.exitcode == 1
    said = (tmp_path / "said-0").read_text()
    assert "error: Process 1 has given no sign of life for 2 s" in said


def test_long_work_of_one_process_is_no_silence(tmp_path):
    assert [code for code, _ in forked(tmp_path, one_is_long)] == [0, 0]


def late(rank: int) -> None:
    distributed.start(CPU, 5)
    with guard.lost_is_a_sentence(5):
        distributed.total(torch.ones(1)) if rank == 0 else time.sleep(8)


def test_a_process_that_never_comes_is_a_sentence_too(tmp_path):
    (code, said), _ = forked(tmp_path, late)
    assert code == 1 and "Another process has ended, or has not answered for 5 s" in said


# Hybrid sharding and states in parts ----------------------------------------------------------

def divided(rank: int, out: Path, stage: str) -> None:
    """csd on 2 nodes of 2, stopped after its fourth step; the same again in two processes."""
    seeded_step = loop.seeded_step

    def step(cfg, job, i, name):
        if stage == "hybrid" and i == 4:
            raise KeyboardInterrupt
        found = seeded_step(cfg, job, i, name)
        for network in job.networks.values():
            for a in network.parameters():
                assert isinstance(a, DTensor) and a.device_mesh.shape == (
                    (2, 2) if stage == "hybrid" else (2,))
                assert a.numel() < 8 or a.to_local().numel() <= 0.75 * a.numel()
        return found

    loop.seeded_step = step
    words = ("shard=true", "threads=1", *(["shard_in_node=true"] * (stage == "hybrid")))
    said = grey("csd", out, *WORDS, *words)
    assert (said is None) == (stage != "hybrid"), said


@pytest.fixture(scope="module")
def hybrid(whole, tmp_path_factory) -> Path:
    """A run on 2 nodes of 2 processes, stopped after four of six steps."""
    out = tmp_path_factory.mktemp("hybrid")
    copy_stages(whole, out, "tokenizer", "tokens", "teacher", "gts")
    for code, said in forked(out, divided, out, "hybrid", world=4, local=2):
        assert code == 0, said
    return out


def test_two_nodes_of_two_train_the_same_and_another_number_goes_on(whole, hybrid, tmp_path):
    two = copy_stages(hybrid, tmp_path, *(p.name for p in hybrid.iterdir() if p.is_dir()))
    for code, said in forked(tmp_path, divided, two, "flat"):
        assert code == 0, said
    assert_same_state(whole / "csd", two / "csd")
    assert log_steps(two / "csd") == [1, 2, 3, 4, 5, 6]
    assert {p.name for p in (two / "csd").iterdir()} == {p.name for p in (whole / "csd").iterdir()}


def test_a_state_in_parts_is_read_whole_by_one_process(whole, hybrid, tmp_path):
    found = parts.newest(hybrid / "csd")
    assert found.name == "state-000004" and not (hybrid / "csd" / "state.pt").exists()
    assert len(list((hybrid / "csd").glob("state-*"))) == 1
    assert len(list(found.glob("*.distcp"))) == 4
    one = copy_stages(hybrid, tmp_path, *(p.name for p in hybrid.iterdir() if p.is_dir()))
    assert grey("csd", one, *WORDS) is None
    assert_same_state(whole / "csd", one / "csd")
    assert load_state(one / "csd" / "state.pt")["step"] == 6
    assert not list((one / "csd").glob("state-*"))


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "unfinished"])
def test_a_damaged_state_in_parts_is_refused(hybrid, tmp_path, damage):
    out = copy_stages(hybrid, tmp_path, *(p.name for p in hybrid.iterdir() if p.is_dir()))
    path = parts.newest(out / "csd")
    file = max(path.glob("*.distcp"), key=lambda p: p.stat().st_size)
    raw = bytearray(file.read_bytes())
    if damage == "bit":
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    elif damage == "cut":
        file.write_bytes(raw[:-7])
    elif damage == "gone":
        file.unlink()
    else:
        (path / parts.ABOUT).unlink()  # killed while it was written: there is no state
        assert parts.newest(out / "csd") is None
        return
    stopped = grey("csd", out, *WORDS)
    assert stopped.startswith("error: ") and file.name in stopped and "damaged" in stopped


def test_parts_and_whole_say_the_same(whole):
    state = load_state(whole / "csd" / "state.pt")
    tensors, groups = parts.flat(state["networks"], state["optimizers"])
    networks, optimizers = parts.nested(tensors, json.loads(json.dumps(groups)))
    assert networks.keys() == state["networks"].keys()
    for name, found in optimizers.items():
        assert found["param_groups"] == state["optimizers"][name]["param_groups"]
        assert found["state"].keys() == state["optimizers"][name]["state"].keys()


# Evaluation -----------------------------------------------------------------------------------

def sampling(rank: int, out: Path, shared: bool) -> None:
    """Batches of 2 of 7 images, each of its own brightness; without a common folder if so."""
    distributed.start(CPU)
    path = out / ("all" if shared else f"node-{rank}") / "images.npy"

    def sampled(i, labels):
        x = (10 * labels + i)[:, None, None, None].expand(-1, 3, 2, 2).to(torch.uint8)
        return x, torch.full((len(labels), 1), i), {"passes": 1}

    stream._plan = lambda pipe, cfg: (torch.arange(7), sampled)
    found = stream.stream(None, config("evaluate.batch=2"), path, 2)
    assert found.tokens.flatten().tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert path.exists() == (shared or rank == 0)


@pytest.mark.parametrize("shared", [True, False])
def test_samples_of_all_processes_come_into_one_file(tmp_path, shared):
    for code, said in forked(tmp_path, sampling, tmp_path, shared):
        assert code == 0, said
    images = np.load(tmp_path / ("all" if shared else "node-0") / "images.npy")
    assert images[:, 0, 0, 0].tolist() == [0, 10, 21, 31, 42, 52, 63]
