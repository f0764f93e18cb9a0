"""Requests that nobody should send, at a page that must not mind: seeded and bounded.

    python -m tests.harness.hostile                            # 50,000 at a page it starts itself
    python -m tests.harness.hostile requests=2000 seed=3 clients=64
    python -m tests.harness.hostile url=http://127.0.0.1:7860  # memory is not looked at then
    python -m tests.harness.hostile programs=200 clients=1000 seconds=60  # among honest ones

The suite runs a few hundred. Only the loopback address is ever asked. Prints what was answered, the
server's memory before and after, and fails if an answer is a defect ("Internal Server Error"), if
the page does not paint afterwards, or if its memory has then grown by more than 150 MiB.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # gradio_client would tell its maker of each use

import asyncio
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gradio_client import Client

from tests.harness.load_clients import Counts, load, memory, start

API = "/gradio_api"
GROWTH = 150.0  # MiB, at most
PATIENCE = 30.0  # seconds for an answer, with few clients
SETTLE = 30.0  # seconds until the page has forgotten who is gone
READ = 65536  # bytes of an answer that are looked at
OUTSIDE = ("http://198.51.100.1/x.png", "https://example.invalid/a.png", "http://[2001:db8::1]/x",
           "//198.51.100.1/x", "file:///etc/passwd", "/etc/passwd", "../../etc/passwd", "http://0/x")
SESSIONS = ("", "a", "a" * 64, "a" * 65, "é", "a b", "../x", "\0", "\ud800", None, 7, [], {}, True)
VALUES = (None, 0, -1, 1e308, "", "x" * 900, "All classes", True, [], {}, [[]], {"a": 1}, "nan",
          10**400, "<script>", "teacher", "one_step", 64)


@dataclass(frozen=True)
class Shot:
    """Bytes to send in one connection, and how to behave then."""

    kind: str
    data: bytes
    manner: str = "read"  # "read" one answer, "drop" at once, "hold" for a second


@dataclass
class Outcome:
    """What came back."""

    answers: Counter = field(default_factory=Counter)  # by kind and status
    defects: list[str] = field(default_factory=list)
    seconds: float = 0.0


def shots(seed: int, count: int, functions: int = 76) -> Iterator[Shot]:
    """`count` hostile requests, the same for the same seed.

    Args:
        functions: how many numbers of functions to try; some beyond are tried too.
    """
    rng = random.Random(seed)
    kinds = [_join, _join, _join, _file_data, _file_data, _fetch, _call, _cancel, _stream, _upload,
             _large, _odd_json, _odd_address, _half, _garbage]
    for _ in range(count):
        yield rng.choice(kinds)(rng, functions)


def _request(method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    if body or method == "POST":
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode("utf-8", "replace") + body


def _post(kind: str, path: str, value: object, manner: str = "read") -> Shot:
    return Shot(kind, _request("POST", f"{API}/{path}", json.dumps(value).encode()), manner)


def _fresh(rng: random.Random) -> object:
    """A session: mostly a new one that looks like a browser's."""
    return rng.choice(SESSIONS) if rng.random() < 0.3 else f"{rng.getrandbits(60):x}"


def _join(rng: random.Random, functions: int) -> Shot:
    index = rng.choice([34, 74, 75, rng.randrange(-2, functions + 9)])
    nones = [None] * 5
    known = {34: [""], 74: ["teacher", "All classes", 64, 0, *nones], 75: [None, 0, 1, 8, None]}
    data = known.get(index) or [rng.choice(VALUES) for _ in range(rng.randrange(10))]
    body = {"fn_index": index, "data": data, "session_hash": _fresh(rng)}
    if rng.random() < 0.2:
        body |= {"trigger_id": rng.choice([3, 10**6, "x"]), "event_data": rng.choice(VALUES),
                 "batched": rng.choice([True, False]), "event_id": rng.choice(["", "x"])}
    return _post("join", "queue/join", body, rng.choice(["read", "read", "read", "drop"]))


def _file_data(rng: random.Random, functions: int) -> Shot:
    file = {"path": rng.choice(OUTSIDE), "meta": {"_type": "gradio.FileData"}}
    if rng.random() < 0.3:
        file |= {"url": rng.choice(OUTSIDE), "orig_name": "x", "is_stream": rng.random() < 0.5}
    for _ in range(rng.randrange(4)):
        file = rng.choice([[file], {"value": file}, {"a": [file, 1]}])
    index = rng.choice([0, 8, 24, 34, 69, 74])
    count = {0: 8, 8: 5, 24: 5, 34: 1, 69: 1, 74: 9}[index]
    body = {"fn_index": index, "data": [file] * count, "session_hash": _fresh(rng)}
    path = rng.choice(["queue/join", "run/predict", "api/predict", "call/generate",
                       "call/v2/generate", "component_server"])
    if path == "call/v2/generate":
        body = {"class_name": file}
    return _post("file data", path, body)


def _fetch(rng: random.Random, _: int) -> Shot:
    door = rng.choice(["file=", "proxy=", "file/", "stream/", "custom_component/"])
    path = f"{API}/{door}{rng.choice(OUTSIDE)}".replace(" ", "%20")
    return Shot("fetch", _request(rng.choice(["GET", "HEAD"]), path))


def _call(rng: random.Random, _: int) -> Shot:
    name = rng.choice(["generate", "compare", "interpolate", "nothing", "paint", "..", "%2e%2e"])
    path = f"{rng.choice(['call', 'run', 'api', 'call/v2'])}/{name}"
    data = [rng.choice(VALUES) for _ in range(rng.choice([9, 8, 5, 0]))]
    return _post("call", path, {"data": data, "session_hash": _fresh(rng)})


def _cancel(rng: random.Random, _: int) -> Shot:
    path = rng.choice(["cancel", "reset", "reset/"])
    event = rng.choice(["", "x", f"{rng.getrandbits(128):032x}", None, 3])
    return _post("cancel", path, {"session_hash": _fresh(rng), "fn_index": 0, "event_id": event})


def _stream(rng: random.Random, _: int) -> Shot:
    name = f"{rng.getrandbits(60):x}"
    path = rng.choice([f"heartbeat/{name}", f"queue/data?session_hash={name}", "queue/data",
                       "queue/data?session_hash=", f"call/generate/{rng.getrandbits(128):032x}",
                       "queue/data?session_hash=a&session_hash=b", "heartbeat/%2e%2e%2f"])
    manner = "hold" if path.startswith("heartbeat") else "read"
    return Shot("stream", _request("GET", f"{API}/{path}"), manner)


def _upload(rng: random.Random, _: int) -> Shot:
    part = (b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../a"\r\n\r\n'
            + b"A" * rng.choice([10, 60_000]) + b"\r\n--x--\r\n")
    path = rng.choice(["upload", "upload?upload_id=a", "process_recording", "component_server"])
    kind = "multipart/form-data; boundary=x"
    return Shot("upload", _request("POST", f"{API}/{path}", part, kind))


def _large(rng: random.Random, _: int) -> Shot:
    path = rng.choice(["queue/join", "run/predict", "call/generate"])
    if rng.random() < 0.3:  # says that much and sends a little
        head = _request("POST", f"{API}/{path}").replace(b"Length: 0", b"Length: 40000000")
        return Shot("large", head + b"x" * 1000, "drop")
    text = "x" * rng.choice([70_000, 300_000])
    return _post("large", path, {"fn_index": 34, "data": [text], "session_hash": _fresh(rng)})


def _odd_json(rng: random.Random, _: int) -> Shot:
    depth = rng.choice([10, 1000, 20_000])
    body = rng.choice([
        b"[" * depth + b"]" * depth, b'{"a":' * depth, b"", b"null", b"3", b"[]", b"\xff\xfe",
        b'{"data":[NaN],"fn_index":34,"session_hash":"n"}', b'{"fn_index":' + b"9" * 5000 + b"}",
        b'{"fn_index":1e999,"data":[""],"session_hash":"n"}', '{"é":"\u202e"}'.encode("utf-16"),
        b'{"session_hash":"a","session_hash":"","fn_index":34,"data":[""]}',
    ])
    kind = rng.choice(["application/json", "text/plain", "application/x-www-form-urlencoded", "é"])
    return Shot("odd JSON", _request("POST", f"{API}/queue/join", body, kind))


def _odd_address(rng: random.Random, _: int) -> Shot:
    path = rng.choice([
        "/monitoring", "/login", "/?deep_link=../x", "/config?deep_link=x", "/static/../../x",
        "/static/", "/assets/%2e%2e/x", "/svelte/%252e%252e/x", "/%00", "//", "/?" + "a" * 4000,
        *(f"{API}/{name}" for name in (
            "deep_link?session_hash=a", "vibe-code", "dev/reload", "run-history/buckets", "mcp",
            "runs", "openapi.json", "file=" + "a" * 4000,
        )),
    ])
    method = rng.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW"])
    return Shot("odd address", _request(method, path))


def _half(rng: random.Random, _: int) -> Shot:
    whole = _request("POST", f"{API}/queue/join", b'{"data":[""],"fn_index":34}')
    return Shot("half", whole[: rng.randrange(len(whole))], "drop")


def _garbage(rng: random.Random, _: int) -> Shot:
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    data = rng.choice([rng.randbytes(200), b"GET /\r\n\r\n", b"\x16\x03\x01" + rng.randbytes(60),
                       b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000, b"\r\n" * 50, upgrade])
    return Shot("garbage", data, rng.choice(["drop", "hold"]))


async def fire(url: str, volley: Iterator[Shot], clients: int = 16) -> Outcome:
    """Send all of them, `clients` at once."""
    outcome, since = Outcome(), time.monotonic()
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host and host.startswith("127."), "only this machine is asked"

    patience = max(PATIENCE, clients / 5)

    async def work() -> None:
        for shot in volley:
            try:
                status, text = await asyncio.wait_for(_send(host, port, shot), patience)
            except TimeoutError:
                status, text = "no answer", ""
                outcome.defects.append(f"{shot.kind}: no answer to {shot.data[:200]!r}")
            except OSError:
                status, text = "closed", ""
            outcome.answers[shot.kind, status] += 1
            if text.endswith("\nInternal Server Error") or "Traceback" in text:
                outcome.defects.append(f"{shot.kind}: {text[-200:]!r} to {shot.data[:400]!r}")

    await asyncio.gather(*(work() for _ in range(clients)))
    outcome.seconds = time.monotonic() - since
    return outcome


async def _send(host: str, port: int, shot: Shot) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(shot.data)
        await writer.drain()
        if shot.manner == "drop":
            return "dropped", ""
        if shot.manner == "hold":
            await asyncio.sleep(0.05)
            return "held", ""
        text = (await reader.read(READ)).decode("latin-1")
        return text.split(" ")[1] if text.startswith("HTTP/1.1 ") else "closed", text
    finally:
        writer.transport.abort()


def paints(url: str) -> bool:
    """Whether the page still answers a program."""
    job = Client(url, verbose=False).submit(count=1, api_name="/generate")
    return job.result(timeout=2 * PATIENCE)[1]["count"] == 1


def warm(url: str) -> None:
    """Have the page do the largest of what it is for, so that growth is not its own."""
    client = Client(url, verbose=False)
    for sampler in ("one_step", "teacher"):
        client.predict(sampler, count=64, api_name="/generate")
    client.predict(count=48, api_name="/interpolate")
    list(client.submit(count=16, api_name="/compare"))


def patiently(url: str, seconds: float = 90.0) -> bool:
    """`paints`, asked again while the queue is still full of what nobody waits for."""
    end = time.monotonic() + seconds
    while True:
        try:
            return paints(url)
        except Exception as error:
            if time.monotonic() > end or "full" not in str(error).lower():
                print(f"the page does not paint: {error}", file=sys.stderr)
                return False
            time.sleep(2)


def attack(url: str, given: dict[str, str]) -> tuple[Outcome, Counts]:
    """Fire as the command line says, among `programs` that ask for images, if there are any."""
    count, seed = int(given.get("requests", 50_000)), int(given.get("seed", 0))
    volley, clients = shots(seed, count), int(given.get("clients", 32))
    programs, seconds = int(given.get("programs", 0)), float(given.get("seconds", 60))
    if not programs:
        return asyncio.run(fire(url, volley, clients)), Counts()
    with ThreadPoolExecutor(1) as pool:
        ready = threading.Event()
        honest = pool.submit(load, url, None, programs, seconds, "/generate", ready)
        ready.wait(timeout=programs)  # until they know the page
        outcome = asyncio.run(fire(url, volley, clients))
        return outcome, honest.result()[0]


def main(arguments: list[str]) -> int:
    """Run, print, judge."""
    given = dict(a.split("=", 1) for a in arguments)
    server, url = (None, given["url"]) if "url" in given else start()
    before = after = most = 0.0
    try:
        warm(url)
        before = memory(server.pid) if server else 0.0
        outcome, honest = attack(url, given)
        most = memory(server.pid) if server else 0.0
        alive = patiently(url)
        time.sleep(SETTLE if server else 0.0)
        after = memory(server.pid) if server else 0.0
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=30)
    for (kind, status), number in sorted(outcome.answers.items()):
        print(f"  {kind:12} {status:10} {number}")
    print(f"{outcome.answers.total()} requests, {outcome.seconds:.0f} s: "
          f"{len(outcome.defects)} defects; afterwards the page "
          f"{'paints' if alive else 'does not paint'}; memory {before:.0f} MiB before, "
          f"{most:.0f} at the end, {after:.0f} afterwards")
    if honest.seconds:
        print(f"honest programs: {len(honest.seconds)} answers, median "
              f"{honest.percentile(0.5):.2f} s, {honest.full} times \"queue is full\", others: "
              f"{Counter(honest.wrong).most_common(5)}")
    for defect in outcome.defects[:20]:
        print(f"  {defect}")
    return int(bool(outcome.defects) or not alive or after - before > GROWTH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
