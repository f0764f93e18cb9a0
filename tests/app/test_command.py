"""The page started as a command: names, ports, offline, signals, and one sentence for a fault."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client

from dd2core.store.folder import save_folder
from tests.support import tiny
from tests.support.app_helpers import free_port, wait_until

ROOT = Path(__file__).parents[2]
API = "/gradio_api"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_folder(folder, tiny.model())
    return folder


@contextlib.contextmanager
def command(**environment):
    """`python app.py`, in a process group of its own."""
    run = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def catches(run: subprocess.Popen, number: int) -> bool:
    lines = Path(f"/proc/{run.pid}/status").read_text().splitlines()
    mask = next(line for line in lines if line.startswith("SigCgt")).split()[1]
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(model, number):
    code = 130 if number == signal.SIGINT else 0
    port = free_port()
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9",
               "ALL_PROXY": "socks5h://127.0.0.1:9"}  # nobody listens there
    with command(DD2_MODEL=str(model), GRADIO_SERVER_PORT=str(port), **proxies) as run:
        wait_until(lambda: run.poll() is not None or answers(port), 120)
        assert run.poll() is None, run.stderr.read()
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        line.request("GET", f"{API}/heartbeat/visitor")
        stream = line.getresponse()
        since = time.monotonic()
        run.send_signal(number)
        assert b"ALIVE" in stream.read()  # to the end of the stream, which is a whole one
        _, said = run.communicate(timeout=20)
        assert time.monotonic() - since < 5 and run.returncode == code
        assert "Traceback" not in said, said
        with pytest.raises(ProcessLookupError):  # nobody is left in its group
            os.killpg(run.pid, 0)


def answers(port: int) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", "/")
        return line.getresponse().status == 200
    except OSError:
        return False
    finally:
        line.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_an_early_interrupt_is_no_traceback():
    with command() as run:
        wait_until(lambda: catches(run, signal.SIGTERM), 30)
        time.sleep(0.5)  # it imports torch
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=20)
        assert run.returncode == 130 and not said


@pytest.mark.parametrize("port", ["abc", "", "0", "70000", "80.5"])
def test_a_port_that_is_none_is_one_sentence(port):
    with command(GRADIO_SERVER_PORT=port) as run:
        _, said = run.communicate(timeout=60)
        assert run.returncode == 1 and said.count("\n") == 1
        assert said == f"app: GRADIO_SERVER_PORT is {port!r}: set a number from 1 to 65535.\n"


def test_files_are_read_as_utf_8_whatever_the_system_says():
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = "import locale, app.theme; print(locale.getpreferredencoding(False))"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, env=os.environ | old,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "utf" not in done.stdout.lower()


WATCH = """
import os, socket
open(os.environ["DD2_WATCH"], "a").write("watching\\n")
connect = socket.socket.connect
def watched(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1")):
        open(os.environ["DD2_WATCH"], "a").write(f"{address}\\n")
    return connect(self, address)
socket.socket.connect = watched
"""


def start(environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_argument_is_refused_and_not_taken_without_a_word():
    for words in (["--port", "7999"], ["DD2_MODEL=fashion-var"]):
        said = subprocess.run([sys.executable, "app.py", *words], cwd=ROOT, text=True,
                              capture_output=True, timeout=120)
        assert said.returncode == 1 and said.stdout == ""
        assert said.stderr.strip() == (f"app: {words[0]!r} is no argument: settings are variables "
                                       "of the environment, see python app.py --help.")


def test_the_command_honours_name_and_port_and_stays_offline(model, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    port, calls = free_port(), tmp_path / "calls.txt"
    server = start(
        {
            "DD2_MODEL": str(model),
            "GRADIO_SERVER_NAME": "127.0.0.2",
            "GRADIO_SERVER_PORT": str(port),
            "PYTHONPATH": str(tmp_path),
            "DD2_WATCH": str(calls),
        }
    )
    try:
        wait_for(f"http://127.0.0.2:{port}/", server)
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        client = Client(f"http://127.0.0.2:{port}/", verbose=False)
        assert client.predict(api_name="/generate")[1]["model"] == "tiny"
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert set(calls.read_text().splitlines()) == {"watching"}


def wait_for(address: str, server: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, server.stderr.read()
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"nothing answers at {address}")


def test_a_missing_model_is_one_sentence(tmp_path):
    _, said = (server := start({"DD2_MODEL": str(tmp_path / "nothing")})).communicate(timeout=240)
    assert server.returncode == 1
    assert said.startswith("app: ") and said.count("\n") == 1 and "Traceback" not in said
