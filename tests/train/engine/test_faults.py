"""Kills at random moments, damaged files, full disks: the right result or one sentence.

`python -m tests.harness.kills 200` and `python -m tests.harness.damage 200 300` do the same more
often.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest

from dd2core.store import atomic
from dd2core.store.files import write_tensors
from tests.harness import damage, kills
from tests.support.train_helpers import grey, snapshot
from train.engine.run_folder import Run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A run with every stage before csd."""
    return kills.prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def half_and_whole(prepared, tmp_path_factory) -> tuple[Path, Path]:
    """A run stopped in the middle of csd, and a whole one."""
    return damage.half_done(tmp_path_factory.mktemp("damage"), prepared)


def test_killed_runs_end_as_the_uninterrupted_one(prepared, tmp_path):
    assert kills.killed_runs(prepared, tmp_path, 6, seed=1) >= 1


def test_damaged_runs_end_in_the_same_result_or_one_sentence(half_and_whole, tmp_path):
    ends = damage.damaged_states(*half_and_whole, tmp_path, 16, seed=1)
    assert ends.total() == 16 and ends["a sentence"] > 0


def test_damaged_models_give_the_same_images_or_one_sentence(tmp_path):
    ends = damage.damaged_assets(damage.make_model(tmp_path / "model"), tmp_path, 24, seed=1)
    assert ends.total() == 24 and ends["a sentence"] > 0


# The mean of snapshots ------------------------------------------------------------------------

def test_a_state_is_written_after_the_snapshot_of_its_step(prepared, tmp_path, monkeypatch):
    """Else a kill between the two would leave a state that never makes that snapshot."""
    saved, save = [], Run.save

    def checked(run, job, step, seconds):
        saved.append((step, (run.folder / f"generator-{step:06d}.safetensors").is_file()))
        save(run, job, step, seconds)

    monkeypatch.setattr(Run, "save", checked)
    shutil.copytree(prepared, tmp_path / "run")
    assert grey("csd", tmp_path / "run", *kills.WORDS) is None
    assert saved == [(2, True), (4, True), (6, True)]


def test_a_missing_snapshot_is_not_averaged_over(half_and_whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(half_and_whole[0], out)
    (out / "csd" / "generator-000003.safetensors").unlink()
    stopped = grey("csd", out, *kills.WORDS)
    assert "no snapshot of step 3" in stopped and damage.is_sentence(stopped)


def test_snapshots_of_another_run_are_not_averaged(prepared, half_and_whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(prepared, out)
    (out / "csd").mkdir()
    foreign = half_and_whole[1] / "csd" / "generator-000001.safetensors"
    for step in (2, 3, 90):
        shutil.copy(foreign, out / "csd" / f"generator-{step:06d}.safetensors")
    assert grey("csd", out, *kills.WORDS) is None
    kills.compare(out / "csd", half_and_whole[1] / "csd")


# Disks ----------------------------------------------------------------------------------------

STAGES = ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "dd1", "export")


class Full:
    """A file on a disk that has no room after some bytes."""

    def __init__(self, file, room: list[int]):
        self.file, self.room = file, room

    def write(self, data) -> int:
        self.room[0] -= memoryview(data).nbytes
        if self.room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)


@pytest.mark.parametrize("room", [0, 5000])
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_sentence_and_loses_nothing(stage, room, prepared, half_and_whole,
                                                      tmp_path, monkeypatch):
    source = half_and_whole[1] if stage == "export" else prepared
    out = tmp_path / "run"
    shutil.copytree(source, out, ignore=shutil.ignore_patterns(stage))
    before, left = snapshot(out), [room]
    full = lambda *a: Full(open(*a), left)  # noqa: E731, SIM115
    monkeypatch.setattr(atomic, "open", full, raising=False)
    stopped = grey(stage, out, "tune.steps=0", *kills.WORDS)
    assert "cannot be written (No space left on device)" in stopped
    assert damage.is_sentence(stopped)
    after = snapshot(out)
    assert {k: after[k] for k in before} == before
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("stage", ["tokenizer", "teacher", "export", "evaluate"])
def test_a_folder_that_cannot_be_written_is_one_sentence(stage, prepared, tmp_path):
    (tmp_path / "file").write_text("no folder")
    stopped = grey(stage, tmp_path / "file" / "run")
    assert stopped.startswith("error: ") and damage.is_sentence(stopped)


def test_weights_that_float16_cannot_hold_are_not_written(tmp_path):
    import torch

    for value, says in ((1e6, "too large for float16"), (float("nan"), "not finite"),
                        (float("-inf"), "not finite")):
        with pytest.raises(damage.DD2Error, match=says):
            write_tensors(tmp_path / "a", {"w": torch.tensor([value])}, torch.float16)
    assert not list(tmp_path.iterdir())
