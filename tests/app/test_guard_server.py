"""The server's end of it: waits that end, streams that are counted, a start and an end in order."""

import contextlib
import http.client
import io
import json
import os
import socket
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.utils import get_upload_folder

import app
from app import main
from app.html.files import archive, keep_bytes
from app.page import build_page
from app.serve import connections, environment, guard, server
from app.serve.models import Models
from app.tabs.compare import CompareTab
from app.tabs.tab import Shared
from dd2core import DD2Error, Pipeline
from dd2core.store.folder import save_folder
from tests.support import tiny
from tests.support.app_helpers import free_port, wait_until
from tests.support.browser_helpers import SlowTeacher

ROOT = Path(__file__).parents[2]
API = "/gradio_api"


@contextlib.contextmanager
def served(pipe):
    page = build_page(Models.of(pipe))
    server.launch(page, server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        yield page
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def page():
    with served(Pipeline(tiny.model())) as page:
        yield page


def dial(page: gr.Blocks, words: str = "") -> socket.socket:
    line = socket.create_connection(("127.0.0.1", page.server_port), timeout=8)
    line.sendall(words.encode())
    return line


def get(path: str, more: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n"


@pytest.mark.parametrize("words", ["", "GET / HT", "POST /x HTTP/1.1\r\nHost: x\r\nContent-"])
def test_a_connection_that_sends_no_request_ends(page, monkeypatch, words):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(connections, "LOOK_EVERY", 0.1)
    with dial(page, words) as line, contextlib.suppress(ConnectionResetError):
        assert line.recv(100) == b""  # a socket timeout would be an error


def test_half_a_second_request_ends_too(page, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(connections, "LOOK_EVERY", 0.1)
    with dial(page, get("/robots.txt") + "GET /") as line, contextlib.suppress(
        ConnectionResetError
    ):
        assert line.recv(9000).startswith(b"HTTP/1.1 200")
        while line.recv(9000):
            pass


def test_a_connection_may_rest_between_two_requests(page, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 3.0)
    monkeypatch.setattr(connections, "LOOK_EVERY", 0.1)
    with dial(page) as line:
        for _ in range(3):
            time.sleep(1.2)  # 3.6 seconds from the first byte to the last
            line.sendall(get("/robots.txt").encode())
            answer = b""
            while not answer.endswith(b"Disallow: "):  # head and body may come apart
                part = line.recv(9000)
                assert part, answer
                answer += part
            assert answer.startswith(b"HTTP/1.1 200")


def test_the_page_is_sent_compressed_and_streams_are_not(page):
    packed = "Accept-Encoding: gzip\r\nConnection: close\r\n"
    sizes = []
    for more in (packed, "Connection: close\r\n"):
        with dial(page, get("/", more)) as line:
            head, body = line.makefile("rb").read().split(b"\r\n\r\n", 1)
        sizes.append(len(body))
        assert (b"content-encoding: gzip" in head.lower()) == (more is packed)
    assert sizes[0] < sizes[1] / 4
    with dial(page, get(f"{API}/heartbeat/packed", packed)) as line:
        assert b"encoding: gzip" not in line.recv(9000).lower()


def test_a_named_port_that_is_taken_is_one_sentence_and_no_other_port(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        monkeypatch.setenv("GRADIO_SERVER_PORT", taken)
        monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
        with pytest.raises(SystemExit, match=f"^app: GRADIO_SERVER_PORT is {taken}, .*port.$"):
            environment.named_port()
    assert environment.named_port() == int(taken)  # free again
    monkeypatch.delenv("GRADIO_SERVER_PORT")
    assert environment.named_port() is None


def test_no_proxy_stands_before_this_machine_and_the_share_link_is_asked_for(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    given = {}

    class Page:
        def launch(self, share=None, server_port=None, **options):
            given.update(options, share=share, port=server_port)

        server = None

    monkeypatch.setattr(server.queue, "install", lambda *_: None)
    monkeypatch.setattr(server.connections, "limit", lambda *_: None)
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    server.launch(Page(), prevent_thread_lock=True)
    assert given["share"] is None and given["port"] is None  # Gradio reads GRADIO_SHARE
    server.launch(Page(), prevent_thread_lock=True, share=True)
    assert given["share"] is True
    assert os.environ["NO_PROXY"] == "example.org,localhost,127.0.0.1"
    assert urllib.request.proxy_bypass_environment("127.0.0.1")


def test_a_notebook_serves_the_page_with_one_line(tmp_path, monkeypatch):
    save_folder(model := tmp_path / "tiny", tiny.model())
    monkeypatch.setattr(main, "_get_ready", lambda *_: None)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "abc")
    with pytest.raises(DD2Error, match="GRADIO_SERVER_PORT is 'abc'"):
        app.launch(str(model))
    monkeypatch.setenv("GRADIO_SERVER_PORT", port := str(free_port()))
    served, url, _ = app.launch(str(model), quiet=True)
    try:
        assert url.rstrip("/").endswith(port)
        assert urllib.request.urlopen(url, timeout=20).status == 200
    finally:
        served.get_blocks().close(verbose=False)


def test_a_body_that_does_not_come_is_answered(page, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    head = f"POST {API}/queue/join HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{{"
    with dial(page, head) as line:
        assert line.recv(9000).startswith(b"HTTP/1.1 408")


def test_noise_on_the_port_writes_no_log(page, caplog):
    with dial(page, "\x16\x03\x01 noise\r\n\r\n") as line:
        assert line.recv(9000).startswith(b"HTTP/1.1 400")
    assert not caplog.records


def test_idle_connections_make_room_for_others(page, monkeypatch):
    monkeypatch.setattr(page.server.config.http_protocol_class, "most", 4)
    lines = [dial(page) for _ in range(12)]
    with dial(page, get("/robots.txt")) as line:
        assert line.recv(9000).startswith(b"HTTP/1.1 200")
    assert len(page.server.server_state.connections) <= 5
    for line in lines:
        line.close()


def test_a_peer_that_takes_nothing_is_cut_off(monkeypatch):
    class Line:
        aborted = False

        def abort(self):
            self.aborted = True

    class Clock:
        def time(self):
            return 100.0

        def call_later(self, *_):
            return None

    peer = connections.Patient.__new__(connections.Patient)
    peer.loop, peer.transport, peer.cycle = Clock(), Line(), None
    peer.idle_since, peer.stalled_since = 100.0, 100.0 - connections.STALL_SECONDS + 1
    peer._look()
    assert not peer.transport.aborted
    peer.stalled_since = 100.0 - connections.STALL_SECONDS - 1
    peer._look()
    assert peer.transport.aborted


def test_streams_are_counted_and_bounded(page, monkeypatch):
    monkeypatch.setitem(guard.MOST_STREAMS, "heartbeat", 3)
    wait_until(lambda: not page.door.open["heartbeat"])
    lines = [dial(page, get(f"{API}/heartbeat/visitor{i}")) for i in range(3)]
    assert all(line.recv(9000).startswith(b"HTTP/1.1 200") for line in lines)
    with dial(page, get(f"{API}/heartbeat/late")) as line:
        assert line.recv(9000).startswith(b"HTTP/1.1 503")
    for line in lines:
        line.close()
    wait_until(lambda: not page.door.open["heartbeat"] and not page.door.of)


def test_a_session_nobody_knows_is_told_so(page):
    with dial(page, get(f"{API}/queue/data?session_hash=unknown", "Connection: close\r\n")) as line:
        text = line.makefile("rb").read().decode()
    said = json.loads(text.split("data: ")[1].splitlines()[0])
    assert said["session_not_found"] and said["message"] == guard.GONE


def test_streams_hear_why_they_end():
    pipe = SlowTeacher(Pipeline(tiny.model()))
    pipe.pause = 0.4
    with served(pipe) as page:
        port, heard, begun = page.server_port, {}, []
        index = next(i for i, fn in page.fns.items() if fn.api_name == "compare")
        body = {"fn_index": index, "data": ["All classes", 1, 0, *[None] * 5],
                "session_hash": "listens"}
        call = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        call.request("POST", f"{API}/queue/join", json.dumps(body),
                     {"Content-Type": "application/json"})
        assert call.getresponse().status == 200

        def listen(name: str, path: str) -> None:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            line.request("GET", path)
            answer = line.getresponse()
            begun.append(name)
            heard[name] = answer.read().decode()

        paths = {"page": f"{API}/queue/data?session_hash=listens", "heart": f"{API}/heartbeat/a"}
        threads = [threading.Thread(target=listen, args=pair) for pair in paths.items()]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(begun) == 2)
        since = time.monotonic()
        server.stop(page)
        assert time.monotonic() - since < 5
        for thread in threads:
            thread.join(timeout=5)
    last = json.loads(heard["page"].strip().splitlines()[-1].removeprefix("data: "))
    assert last["message"] == guard.STOPPING and last["msg"] == "unexpected_error"
    assert set(heard["heart"].split()) <= {"data:", "ALIVE"}


@pytest.mark.parametrize("name", ["/abs/x", "a/b", "..", "", "x" * 3000, "a\nb\0c", "C:\\x"])
def test_a_models_name_makes_no_file_elsewhere(name):
    model = tiny.model()
    object.__setattr__(model, "name", name)
    tab = CompareTab(Models.of(Pipeline(model)))
    with gr.Blocks():
        tab.build(Shared(tab.models))
    *_, last = tab.paint(None, None, None, "All classes", 1, 0, None, None, None, None)
    path = Path(last[6].value["path"] if isinstance(last[6].value, dict) else last[6].value)
    cache = Path(get_upload_folder()).resolve()
    assert path.is_file() and path.resolve().parent.parent == cache
    assert path.name.endswith("-seed-0.zip") and len(path.name.encode()) <= 120


def test_a_kept_file_stays_in_the_cache(tmp_path):
    kept = Path(keep_bytes(b"x", f"{tmp_path}/y.gif"))
    assert not list(tmp_path.iterdir())
    assert kept.resolve().parent.parent == Path(get_upload_folder()).resolve()


def test_a_class_makes_no_file_elsewhere_in_an_archive():
    names = ["../../x", "/etc/passwd", "T-shirt/top", "", "a\\b"]
    images = np.zeros((len(names), 8, 8, 3), np.uint8)
    bundle = zipfile.ZipFile(io.BytesIO(archive({"one-step": images}, names, {})))
    for name in bundle.namelist():
        parts = name.split("/")
        assert len(parts) <= 2 and ".." not in parts and "" not in parts and "\\" not in name
