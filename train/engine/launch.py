"""Running a stage in processes of its own, to which signals are passed on."""

import os
import signal
import subprocess
import sys

PASSED_ON = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP")
             if hasattr(signal, name)]


def torchrun(processes: int, restarts: int = 0) -> tuple[list[str], dict[str, str]]:
    """The words that start so many processes on this machine, and what they need in their
    environment.

    Args:
        processes (int): on this machine.
        restarts (int): times that all are started again when one has failed.
    """
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone",
             f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    # With torchrun's own store the processes of a second start meet what the first left in it.
    return words, {"OMP_NUM_THREADS": threads, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def call(command: list[str], environment: dict[str, str]) -> int:
    """Run a stage to its end; its exit status, or 128 and the signal that ended it or this.

    It has a process group of its own, so that a Ctrl-C reaches it once: through this process.
    """
    came: list[int] = []
    own_group = {"process_group": 0} if os.name == "posix" else {}
    # Before the stage starts, so that no signal comes between; it is passed on as soon as it runs.
    before = {s: signal.signal(s, lambda number, _: _pass_on(number, came, stage))
              for s in PASSED_ON}
    stage: list[subprocess.Popen] = []
    try:
        stage.append(subprocess.Popen(command, env=environment, **own_group))
        for number in came:
            stage[0].send_signal(number)
        code = stage[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        return 128 + came[0]
    return 128 - code if code < 0 else code


def _pass_on(number: int, came: list[int], stage: list[subprocess.Popen]) -> None:
    came.append(number)
    for process in stage:
        process.send_signal(number)
