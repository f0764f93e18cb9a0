"""Runs do not mix: one process per folder, one origin per run; signals save and are passed on."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from multiprocessing import Process
from pathlib import Path

import filelock
import pytest

from dd2core.store.files import read_json, read_tensors, write_tensors
from dd2core.store.state import load_state
from tests.harness.damage import is_sentence
from tests.support.forked import alone
from tests.support.train_helpers import PICTURES, grey, same_state, snapshot

BEFORE = ("tokenizer", "teacher", "gts", "warm", "csd")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run up to csd, on pictures of its own."""
    out = tmp_path_factory.mktemp("finished")
    shutil.copytree(PICTURES, out / "data")
    for stage in BEFORE:
        assert grey(stage, out / "run", f"data={out / 'data'}") is None
    return out


@pytest.fixture
def run(finished, tmp_path):
    """A copy: its run folder, and a function that starts a stage there."""
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copytree(finished / "data", tmp_path / "data")  # with the times of change
    words = [f"data={tmp_path / 'data'}"]
    return tmp_path / "run", lambda stage, *more: grey(stage, tmp_path / "run", *words, *more)


# Origin ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("stage, word", [
    ("tokenizer", "tokenizer.lr=0.01"), ("tokenizer", "seed=1"), ("teacher", "teacher.batch=4"),
    ("teacher", "teacher.class_dropout=0.5"), ("gts", "head.t_init=0.5"), ("gts", "gts.ema=0.5"),
    ("csd", "csd.form=sid"), ("csd", "csd.start=gts"), ("csd", "csd.sampling.cfg=3"),
    ("csd", "warm.sharpness=1"), ("csd", "csd.average=[2,6]"), ("csd", "csd.grid_every=1")])
def test_a_setting_that_changes_the_result_is_refused_and_named(stage, word, run):
    out, start = run
    before = snapshot(out)
    stopped = start(stage, word)
    key, _, value = word.partition("=")
    assert f"{out / stage} was trained with" in stopped and "resume=anyway" in stopped
    assert (key in stopped and f"(now {value.replace(',', ', ')}" in stopped) and (
        is_sentence(stopped))
    assert snapshot(out) == before


@pytest.mark.parametrize("word", ["csd.log_every=3", "csd.save_every=1", "threads=2",
                                  "device=cpu", "tokenizer.lr=1", "evaluate.n=99"])
def test_what_does_not_change_the_result_is_not_asked_about(word, run):
    out, start = run
    before = snapshot(out)
    assert start("csd", word) is None
    assert snapshot(out) == before  # config.yaml of a finished stage too


def test_anyway_goes_on_and_says_so(run, capsys):
    out, start = run
    assert start("csd", "csd.steps=8", "csd.average=[4,8]", "resume=anyway") is None
    assert "csd.steps=6 (now 8)" in capsys.readouterr().out
    assert load_state(out / "csd" / "state.pt")["step"] == 8
    assert start("csd", "csd.steps=8", "csd.average=[4,8]") is None  # that is its origin now


def test_changed_pictures_are_other_data(run):
    out, start = run
    picture = next((out.parent / "data").rglob("*.png"))
    os.utime(picture, ns=(1, 1))
    assert "other data" in start("tokenizer")
    tokens = out / "tokens" / "source.json"
    before = read_json(tokens)
    assert "teacher was trained with another tokens/source.json" in start("teacher")
    assert read_json(tokens)["data"] != before["data"]


def test_a_retrained_tokenizer_makes_what_was_built_on_it_stale(run):
    out, start = run
    shutil.rmtree(out / "tokenizer")
    assert start("tokenizer", "seed=1") is None
    for stage in ("teacher", "gts", "csd"):
        stopped = start(stage)
        assert "another tokenizer/tokenizer.safetensors" in stopped.replace(
            "tokens/source.json, ", ""), stage
        assert is_sentence(stopped)
    assert "teacher was trained on another" in start("export")
    for stage, stale in (("csd", "teacher"), ("gts", "teacher")):  # begun anew, on what is stale
        shutil.rmtree(out / stage)
        assert f"{stale} was trained on another" in start(stage)


def test_a_retrained_stage_in_the_middle_is_found_by_the_export(run):
    out, start = run
    path = out / "warm" / "generator.safetensors"
    write_tensors(path, {k: 2 * a for k, a in read_tensors(path).items()})
    stopped = start("export", "tune.steps=0")
    assert "csd was trained on another warm/generator.safetensors" in stopped


def test_a_finished_stage_without_its_state_is_not_trained_over(run):
    out, start = run
    (out / "csd" / "state.pt").unlink()
    before = snapshot(out)
    assert "is finished, but its state.pt is gone" in start("csd")
    assert snapshot(out) == before


def test_a_run_of_unknown_origin_is_refused(run):
    out, start = run
    (out / "gts" / "origin.json").unlink()
    assert "has no origin.json" in start("gts")
    assert start("gts", "resume=anyway") is None
    assert start("gts") is None


# One process ----------------------------------------------------------------------------------

def test_two_processes_do_not_train_into_one_folder(run):
    out, start = run
    with filelock.FileLock(out / "csd" / ".lock"):
        before = snapshot(out)
        stopped = start("csd")
        assert f"Another process trains in {out / 'csd'}" in stopped and is_sentence(stopped)
        assert snapshot(out) == before
    assert start("csd") is None  # what a dead process held is free


# Signals --------------------------------------------------------------------------------------

LONG = ("gts.steps=100000", "gts.save_every=100000", "gts.log_every=1")


@contextlib.contextmanager
def started(out: Path, stage: str, *words: str) -> Iterator[Process]:
    """A command on the run, once gts has logged a step; `train.all` starts gts anew."""
    log = out / "gts" / "log.jsonl"

    def command():
        raise SystemExit(grey(stage, out, f"data={out.parent / 'data'}", *LONG, *words))

    with alone(out / "said", command) as process:
        while not (log.exists() and log.stat().st_size > 400):
            assert process.is_alive(), (out / "said").read_text()
            time.sleep(0.05)
        yield process


@pytest.mark.parametrize("stage, number", [
    ("gts", signal.SIGTERM), ("gts", signal.SIGINT), ("all", signal.SIGTERM)])
def test_a_signal_saves_and_ends_the_stage(stage, number, run):
    out, _ = run
    for done in ("gts", "warm", "csd"):
        shutil.rmtree(out / done)
    words = ("skip=tokenizer,classifier,teacher",) if stage == "all" else ()
    with started(out, stage, *words) as process:
        os.kill(process.pid, number)
        process.join(900)
        assert process.exitcode == 128 + number
    said = (out / "said").read_text()
    assert "gts: stopped and saved after step" in said and "Traceback" not in said
    step = load_state(out / "gts" / "state.pt")["step"]
    assert f"after step {step}," in said and step > 0
    with filelock.FileLock(out / "gts" / ".lock").acquire(timeout=0):  # no stage runs on
        pass


def test_a_run_stopped_by_a_signal_goes_on_as_if_it_had_not(run):
    out, start = run
    shutil.copytree(out / "gts", out.parent / "whole")
    shutil.rmtree(out / "gts")
    from train.engine import loop

    step = loop.seeded_step
    with pytest.MonkeyPatch.context() as patch:
        def seeded_step(cfg, job, i, stage):
            if i == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(cfg, job, i, stage)

        patch.setattr(loop, "seeded_step", seeded_step)
        assert start("gts", "gts.save_every=6") == 143
    assert load_state(out / "gts" / "state.pt")["step"] == 4
    assert start("gts", "gts.save_every=6") is None
    assert same_state(out / "gts", out.parent / "whole")
