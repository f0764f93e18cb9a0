"""kill -9 in the middle of a save: the same command again ends where it would have ended."""

import os
import signal
from pathlib import Path

import pytest

from dd2core.store.state import load_state
from tests.support.forked import alone
from tests.support.train_helpers import grey, same_state, without_seconds


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(point: str, saves: int, out: Path) -> None:
    """Trains a tokenizer and dies at this point of its so many-th save of a state."""
    sync, move, seen = os.fsync, os.replace, [0]

    def fsync(fd):
        name = os.readlink(f"/proc/self/fd/{fd}")
        if "state.pt" in name and point == "write" and seen[0] == saves - 1:
            os.truncate(fd, os.fstat(fd).st_size // 2)  # half of it had reached the disk
            die()
        sync(fd)

    def replace(a, b):
        last = str(b).endswith("state.pt") and seen[0] == saves - 1
        if last and point == "before":
            die()
        move(a, b)
        if last:
            die()
        seen[0] += str(b).endswith("state.pt")

    os.fsync, os.replace = fsync, replace
    grey("tokenizer", out, "tokenizer.save_every=1")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_kill_9_in_the_middle_of_a_save(tmp_path):
    """Killed while a state is half written, before it is moved, after it: always resumable."""
    whole = tmp_path / "uninterrupted" / "tokenizer"
    assert grey("tokenizer", whole.parent) is None
    out = tmp_path / "killed"
    folder = out / "tokenizer"
    for point, saves, survives in (("write", 2, 1), ("before", 2, 2), ("after", 2, 4)):
        with alone(tmp_path / "said", killed, point, saves, out) as child:
            child.join(900)
        assert child.exitcode == -signal.SIGKILL, (tmp_path / "said").read_text()
        assert load_state(folder / "state.pt")["step"] == survives, point
        # What this one left lying; the next one sweeps it away.
        assert len(list(folder.glob(".state.pt.*.tmp"))) == (point != "after")
        assert not (folder / "tokenizer.safetensors").exists()
    with open(folder / "log.jsonl", "a") as f:
        f.write('{"step": 5, "sec')  # a line cut by the kill
    assert grey("tokenizer", out, "tokenizer.save_every=1") is None
    assert same_state(folder, whole)
    weights = (folder / "tokenizer.safetensors").read_bytes()
    assert weights == (whole / "tokenizer.safetensors").read_bytes()
    assert not list(folder.glob(".*.tmp"))
    assert without_seconds(folder) == without_seconds(whole)
