"""A sign of life of every process, so that one that is stopped or gone ends the run in time.

The group's own timeout tells of a process only when the others wait for it in a collective, and
NCCL ends them without a sentence. Here a thread of each process counts up in torchrun's store and
looks at the next process's count: it notices a stopped process whatever the others do, and never
mistakes long work of one process for its end.
"""

import os
import sys
import threading
import time
from datetime import timedelta

import torch.distributed as dist

LONGEST = 120.0  # seconds of silence, if the timeout is longer: a beat takes none of it
BEATS = 10  # in that time
OVER = b"over"  # in place of a count: it has left, as it should


class Heartbeat(threading.Thread):
    """Beats until `stop`; ends this process when the next one is silent.

    Args:
        rank, world (int): of this process.
        timeout (float): seconds of silence.
        store (dist.Store): of this thread alone.
    """

    def __init__(self, rank: int, world: int, timeout: float, store: dist.Store):
        super().__init__(name="heartbeat", daemon=True)
        self.rank, self.next, self.store = rank, (rank + 1) % world, store
        self.most = min(timeout, LONGEST)
        self.every = self.most / BEATS
        self.over = threading.Event()
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.key = f"dd2/{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{again}/alive"

    def run(self) -> None:
        """Beat, and count the seconds that the next process is silent."""
        beats, last, silent, since = 0, b"", 0.0, time.monotonic()
        while not self.over.wait(self.every):
            beats, answered = beats + 1, True
            try:
                self.store.set(f"{self.key}/{self.rank}", str(beats))
                key = f"{self.key}/{self.next}"
                found = self.store.get(key) if self.store.check([key]) else b""
            except (RuntimeError, ValueError):
                found, answered = last, False
            now = time.monotonic()
            # Not more than it takes: a process that was itself asleep must not blame the others.
            silent += min(now - since, 3 * self.every)
            since = now
            if found == OVER:
                silent = 0.0
            elif found != last:
                last, silent = found, 0.0
            elif silent > self.most and not self.over.is_set():
                self._end(self.next if answered else 0)

    def _end(self, who: int) -> None:
        sys.stderr.write(
            f"\nerror: Process {who} has given no sign of life for {self.most:g} s (process "
            f"{self.rank} says so): see whether its machine still runs; the same command goes on "
            "at the last saved step.\n")
        sys.stderr.flush()
        os._exit(1)  # the main thread may wait in a collective for ever

    def stop(self) -> None:
        """Beat no more, and let the process before this one know that it is well."""
        self.over.set()
        try:
            self.store.set(f"{self.key}/{self.rank}", OVER.decode())
        except (RuntimeError, ValueError):
            return  # the store ends with the first process


def begin(rank: int, world: int, timeout: float) -> Heartbeat | None:
    """Start to beat, where torchrun has made a store for several processes."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if world == 1 or not address or not port:
        return None
    wait = max(1.0, min(timeout, LONGEST) / BEATS)
    store = dist.TCPStore(address, int(port), is_master=False, wait_for_workers=False,
                          timeout=timedelta(seconds=max(wait, 10.0)))
    store.set_timeout(timedelta(seconds=wait))
    found = Heartbeat(rank, world, timeout, store)
    found.start()
    return found
