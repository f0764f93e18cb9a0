"""Killing a training run at random moments, and damaging what it has written: seeded, countable.

    python -m tests.harness.kills 200 [FOLDER]     kills a tiny csd run 200 times

A run is killed (SIGKILL) and started again until it gets through; then all that it leaves must be
what an uninterrupted run left. Half of the kills come at a random time, half in the middle of a
file operation (`os.fsync` or `os.replace`, before or after it).
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dd2core.store.files import read_tensors
from tests.support.train_helpers import grey, same_state, same_tree, without_seconds

BEFORE = ("tokenizer", "teacher", "gts", "warm")
WORDS = ("csd.save_every=2", "csd.grid_every=1", "csd.average=[2,6]")
KEPT = ("generator", "guidance", *(f"generator-{i:06d}" for i in range(1, 7)))


def prepare(out: Path) -> Path:
    """A run with every stage before csd."""
    for stage in BEFORE:
        assert grey(stage, out) is None
    return out


def in_child(work: Callable[[], object], silent: bool = True) -> int:
    """Fork a process that does `work`; its number. Its imports are paid for already."""
    child = os.fork()
    if child:
        return child
    try:
        if silent:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
        os._exit(0 if work() is None else 1)
    finally:
        os._exit(2)


def dies_at_operation(count: int) -> None:
    """Kill this process around the count-th file operation from now on."""
    left = [count]

    def around(call):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*args, **kwargs)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        return wrapped

    os.fsync, os.replace = around(os.fsync), around(os.replace)


def attempt(out: Path, source: random.Random, seconds: float, operations: int) -> bool:
    """One start of the stage csd, killed at a random moment; whether the kill came in time."""
    at = source.randrange(1, operations)
    by_time = source.random() < 0.5

    def work():
        if not by_time:
            dies_at_operation(at)
        return grey("csd", out, *WORDS)

    child = in_child(work)
    if by_time:
        time.sleep(source.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "a resumed run was refused"
    return False


def killed_runs(prepared: Path, folder: Path, kills: int, seed: int = 0) -> int:
    """Kill runs of csd `kills` times; returns how many runs that took.

    Raises:
        AssertionError: a run that was killed ended otherwise than the uninterrupted one.
    """
    import shutil

    source, whole = random.Random(seed), folder / "whole"
    shutil.copytree(prepared, whole)
    since = time.perf_counter()
    assert os.waitpid(in_child(lambda: grey("csd", whole, *WORDS)), 0)[1] == 0
    seconds, runs = time.perf_counter() - since, 0
    while kills > 0:
        out = folder / f"run-{runs}"
        shutil.copytree(prepared, out)
        for _ in range(source.randrange(1, 6)):
            kills -= attempt(out, source, seconds, 60)
        assert os.waitpid(in_child(lambda out=out: grey("csd", out, *WORDS)), 0)[1] == 0
        compare(out / "csd", whole / "csd")
        shutil.rmtree(out)
        runs += 1
    return runs


def compare(killed: Path, whole: Path) -> None:
    """All weights, snapshots, states and logs are the same, and nothing else lies there."""
    for name in KEPT:
        a, b = (read_tensors(f / f"{name}.safetensors", sealed=True) for f in (killed, whole))
        assert same_tree(a, b), f"{killed}: {name} differs"
    assert same_state(killed, whole), f"{killed}: another state"
    assert without_seconds(killed) == without_seconds(whole), f"{killed}: another log"
    assert {p.name for p in killed.iterdir()} == {p.name for p in whole.iterdir()}, killed


def main() -> None:
    """Kill as often as the command line says."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        where, since = Path(folder), time.perf_counter()
        runs = killed_runs(prepare(where / "prepared"), where, kills)
        print(f"{kills} kills of {runs} runs in {time.perf_counter() - since:.0f} s: every run "
              "ended as the uninterrupted one")


if __name__ == "__main__":
    main()
