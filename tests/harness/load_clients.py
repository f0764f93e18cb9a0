"""Fifty programs at once for a minute: does the page answer, stay polite and stay small?

    python -m tests.harness.load_clients                       # starts the page itself
    python -m tests.harness.load_clients clients=10 seconds=20 endpoint=/interpolate
    python -m tests.harness.load_clients url=http://127.0.0.1:7860

Not collected by pytest. Prints latencies, refusals and the server's memory, and fails if anything
went wrong but a clear "queue is full", or if memory grew by more than 15% after the first third.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # gradio_client would tell its maker of each use

import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from gradio_client import Client

from tests.support.app_helpers import free_port

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds that a client waits for an answer
GROWTH = 1.15  # most memory at the end over that of the first third


class Counts:
    """What all clients saw, gathered under one lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seconds: list[float] = []
        self.full, self.wrong = 0, []

    def add(self, seconds: float) -> None:
        with self.lock:
            self.seconds.append(seconds)

    def refuse(self, said: str) -> None:
        with self.lock:
            if "queue is full" in said.lower():
                self.full += 1
            else:
                self.wrong.append(said[:200])

    def percentile(self, share: float) -> float:
        """Latency that `share` of the answers stayed under, in seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def connect(url: str, clients: int) -> list[Client]:
    """Programs that know the page; one after the other, they are not what is measured."""
    patient = {"timeout": PATIENCE}
    return [Client(url, verbose=False, httpx_kwargs=patient) for _ in range(clients)]


def ask(client: Client, endpoint: str, number: int, end: float, counts: Counts) -> None:
    """One client: ask again and again until `end`, each time with another seed."""
    turn = 0
    while time.monotonic() < end:
        since, seed = time.perf_counter(), number * 10_000 + turn
        given = {"seed_a": seed} if endpoint == "/interpolate" else {"count": 1, "seed": seed}
        try:
            client.predict(**given, api_name=endpoint)
            counts.add(time.perf_counter() - since)
        except Exception as error:  # the point is to count whatever happens
            counts.refuse(str(error))
            time.sleep(1)  # as a polite client does
        turn += 1


def memory(pid: int) -> float:
    """Resident memory of a process in MiB; Linux only."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def start() -> tuple[subprocess.Popen, str]:
    """The page as a process of its own."""
    url = f"http://127.0.0.1:{(port := free_port())}/"
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port)}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment,
                              stdout=subprocess.DEVNULL)
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("load_clients: the page does not start.")
        try:
            urllib.request.urlopen(url, timeout=5)
            return server, url
        except OSError:
            time.sleep(0.3)
    raise SystemExit("load_clients: the page does not answer.")


def load(url: str, pid: int | None, clients: int, seconds: float, endpoint: str,
         ready: threading.Event | None = None) -> tuple:
    """Let `clients` ask for `seconds`, from when they are `ready`; gives the counts and the memory
    over time."""
    counts, sizes, programs = Counts(), [], connect(url, clients)
    if ready is not None:
        ready.set()
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=ask, args=(program, endpoint, i, end, counts), daemon=True)
               for i, program in enumerate(programs)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if pid is not None:
            sizes.append(memory(pid))
        time.sleep(0.5)
        if time.monotonic() > end + PATIENCE:
            counts.refuse(f"A client got no answer within {PATIENCE:g} s of the end.")
            break
    return counts, sizes


def main(arguments: list[str]) -> int:
    """Run, print, judge."""
    given = dict(a.split("=", 1) for a in arguments)
    clients, seconds = int(given.get("clients", 50)), float(given.get("seconds", 60))
    endpoint = given.get("endpoint", "/generate")
    server, url = (None, given["url"]) if "url" in given else start()
    try:
        counts, sizes = load(url, server and server.pid, clients, seconds, endpoint)
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=30)
    print(f"{clients} clients, {seconds:g} s, {endpoint}: {len(counts.seconds)} answers, "
          f"median {counts.percentile(0.5):.2f} s, p95 {counts.percentile(0.95):.2f} s, "
          f"{counts.full} times \"queue is full\", {len(counts.wrong)} errors")
    for said in dict.fromkeys(counts.wrong):
        print(f"  error: {said}")
    grew = False
    if sizes:
        early = max(sizes[: max(1, len(sizes) // 3)])
        grew = sizes[-1] > GROWTH * early
        print(f"memory of the page: {early:.0f} MiB in the first third, {sizes[-1]:.0f} MiB at "
              f"the end, {max(sizes):.0f} MiB at most")
    return int(bool(counts.wrong) or grew or not counts.seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
