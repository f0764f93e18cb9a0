"""kill -9 in the middle of a save: the same command again ends where it would have ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dd2core.store.state import load_state
from tests.support.train_helpers import GREY, grey, same_state, without_seconds
from train.settings.cli import ROOT

KILLER = """
import os, runpy, signal, sys
point, saves = sys.argv.pop(1), int(sys.argv.pop(1))
sync, move, seen = os.fsync, os.replace, 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def fsync(fd):
    name = os.readlink(f"/proc/self/fd/{fd}")
    if "state.pt" in name and point == "write" and seen == saves - 1:
        os.truncate(fd, os.fstat(fd).st_size // 2)  # half of it had reached the disk
        die()
    sync(fd)

def replace(a, b):
    global seen
    last = str(b).endswith("state.pt") and seen == saves - 1
    if last and point == "before":
        die()
    move(a, b)
    if last:
        die()
    seen += str(b).endswith("state.pt")

os.fsync, os.replace = fsync, replace
runpy.run_module("train.tokenizer", run_name="__main__")
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_kill_9_in_the_middle_of_a_save(tmp_path):
    """Killed while a state is half written, before it is moved, after it: always resumable."""
    whole = tmp_path / "uninterrupted" / "tokenizer"
    assert grey("tokenizer", whole.parent) is None
    out = tmp_path / "killed"
    words = [*GREY, f"out={out}", "tokenizer.save_every=1"]
    folder = out / "tokenizer"
    for point, saves, survives in (("write", 2, 1), ("before", 2, 2), ("after", 2, 4)):
        done = subprocess.run([sys.executable, "-c", KILLER, point, str(saves), *words], cwd=ROOT,
                              env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
                              capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
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
