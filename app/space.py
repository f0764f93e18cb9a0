"""Assemble the folder of a Hugging Face Space, and see it start with no network.

python -m app.space out=runs/space                          # the shipped models inside
python -m app.space out=runs/space model=owner/name         # weights from the hub instead
python -m app.space out=runs/space check=false              # do not start it
python -m app.space static=true out=runs/static             # the page that needs no server

Push the folder to a Space made with the Gradio SDK; on ZeroGPU the page borrows its GPU per call.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import gradio

from app.serve.environment import no_proxy
from app.shipped import shipped
from app.static_page.assemble import asked
from app.static_page.space import static_space
from dd2core import DD2Error
from dd2core.store.folder import resolve

ROOT = Path(__file__).parent.parent
FILES = ("app.py", "LICENSE", "NOTICE.md", "CITATION.cff")
FOLDERS = ("app", "dd2core")
NOT_SHOWN = ("reference.npz",)  # for measuring, not for the page
LIBRARIES = ("torch", "numpy", "pillow", "safetensors", "huggingface_hub")  # gradio is the SDK's
PATIENCE = 180.0  # seconds until it answers

README = """---
title: Distilled Decoding 2
emoji: 🎨
colorFrom: green
colorTo: blue
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
license: mit
short_description: One-step image generation beside its AR teacher
models: {models}
pinned: false
---

# One step beside its teacher

An autoregressive image model samples token by token; a copy of it, distilled with Conditional Score
Distillation (Distilled Decoding 2, [arXiv:2510.21003](https://arxiv.org/abs/2510.21003)), samples
the whole image in one forward pass. Here both run side by side, timed. Two CPU cores are enough.

The code was written anew and is under the MIT licence; see `NOTICE.md` for credits.
"""

# Loaded by Python itself at start: the check's server may talk to nobody but this machine.
OFFLINE = """
import socket
connect = socket.socket.connect
def local_only(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1")):
        raise OSError(f"no network: {address}")
    return connect(self, address)
socket.socket.connect = local_only
"""


def assemble(out: Path, model: str = "") -> None:
    """Write the Space into an empty or new folder.

    Args:
        out (Path): made if it is not there; a Space that is there already is written over.
        model (str): hub id whose weights the Space takes; empty puts the shipped ones inside.

    Raises:
        DD2Error: `out` holds something else, or this installation lacks a file.
    """
    if out.exists() and any(out.iterdir()) and not is_space(out):
        raise DD2Error(f"{out} holds something that is no Space: name a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (ROOT / name).is_file():
            raise DD2Error(f"{name} is missing: assemble a Space from the repository's folder.")
        shutil.copy(ROOT / name, out / name)
    for name in FOLDERS:
        _copy(ROOT / name, out / name)
    shutil.rmtree(out / "assets", ignore_errors=True)
    if not model:
        for folder in sorted(p.parent for p in (ROOT / "assets").glob("*/config.json")):
            _copy(folder, out / "assets" / folder.name)
    (out / "requirements.txt").write_text(requirements(), encoding="utf-8")
    (out / "README.md").write_text(readme(model), encoding="utf-8")
    (out / ".gitattributes").write_text(
        "*.safetensors filter=lfs diff=lfs merge=lfs -text\n", encoding="utf-8"
    )


def is_space(folder: Path) -> bool:
    """Whether the README of a folder has a Space's front matter."""
    path = folder / "README.md"
    return path.is_file() and path.read_text(encoding="utf-8").startswith("---\ntitle:")


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.tmp", *NOT_SHOWN)
    shutil.copytree(source, target, ignore=ignore)


def requirements() -> str:
    """The lines of requirements.txt that the page needs; Gradio itself comes with the SDK."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    named = {re.split(r"[<>=;\s]", line)[0]: line for line in lines if line and line[0] != "#"}
    missing = [name for name in LIBRARIES if name not in named]
    if missing:
        raise DD2Error(f"requirements.txt does not name {', '.join(missing)}.")
    return "".join(f"{named[name]}\n" for name in LIBRARIES)


def readme(model: str) -> str:
    """The Space's README; its front matter names the Gradio and the Python of this installation."""
    text = README.format(
        gradio=gradio.__version__,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        models=f"[{model.partition('@')[0]}]" if model else "[]",
    )
    where = f"\nSet the Space's variable `DD2_MODEL` to `{model}`.\n" if model else ""
    return text + where


def check(out: Path, model: str = "") -> str:
    """Start the Space without a network, as its machine would, and have it paint.

    Returns:
        str: one sentence about what it painted.

    Raises:
        DD2Error: it does not start or does not paint; quotes its last words.
    """
    from gradio_client import Client

    if model:
        resolve(model)  # fetched now: offline, the Space finds it where it is kept
    with no_proxy(), _served(out, model) as url:
        _, numbers = Client(url, verbose=False).predict(count=1, api_name="/generate")
    return f"It starts offline and paints with {numbers['model']} on {numbers['device']}."


@contextmanager
def _served(out: Path, model: str):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(OFFLINE, encoding="utf-8")
        port, log = _free_port(), Path(folder, "log.txt")
        own = {k: v for k, v in os.environ.items() if not k.startswith(("DD2_", "GRADIO_"))}
        own |= {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1",
                "GRADIO_SERVER_PORT": str(port), **({"DD2_MODEL": model} if model else {})}
        with log.open("w", encoding="utf-8") as words:
            server = subprocess.Popen([sys.executable, "app.py"], cwd=out, env=own,
                                      stdout=words, stderr=subprocess.STDOUT)
        try:
            _wait(f"http://127.0.0.1:{port}/", server, log)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.3)
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = (words or ["nothing"])[-1]
    if server.poll() is None:
        raise DD2Error(f"The folder is whole, but its page did not answer in {PATIENCE:.0f} s (its "
                       f"last words: {last}): if the machine is busy, run python app.py in it.")
    raise DD2Error(f"The Space does not start; its last words: {last}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(arguments: list[str]) -> None:
    """`out=FOLDER model=HUB_ID check=true static=false`."""
    given = {"out": "", "model": "", "check": "true", "static": "false"}
    if asked(arguments, __doc__, {
            "out=": "folder to write; must be given",
            "model=": "hub id whose weights it loads; nothing: the shipped models inside",
            "check=true": "start it without a network and have it sample",
            "static=false": "true: the page that runs in the visitor's browser"}):
        return
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in given:
            raise DD2Error(f"{argument} is unknown: use out=FOLDER, model=HUB_ID, check=false, "
                           "static=true.")
        given[key] = value
    if not given["out"] or not {given["check"], given["static"]} <= {"true", "false"}:
        raise DD2Error("Name a folder, as in out=runs/space; check and static are true or false.")
    out = Path(given["out"])
    if given["static"] == "true":
        print(static_space(out, [given["model"]] if given["model"] else shipped()))
        print(f"{out} is ready to be pushed to a static Space.")
        return
    assemble(out, given["model"])
    print(f"{out} is ready to be pushed to a Space.")
    if given["check"] == "true":
        print(check(out, given["model"]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DD2Error as error:
        raise SystemExit(f"app.space: {error}") from None
