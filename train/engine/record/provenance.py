"""What is running: commit, time, machine, versions. Every file of numbers carries it.

A stage that trains writes a line into `machines.jsonl` of its folder each time it begins or goes
on, so that minutes can be told apart by machine.
"""

import dataclasses
import functools
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from dd2core.results.provenance import Provenance
from dd2core.results.training import read_log
from dd2core.store.files import read_json, sha256, write_atomic
from dd2core.store.names import MACHINES, MANIFEST

ROOT = Path(__file__).parents[3]
LIBRARIES = ("torch", "numpy", "torchvision", "torch-fidelity", "onnxruntime")


def provenance(device: torch.device, seed: int, weights: dict[str, str] | None = None
               ) -> Provenance:
    """Of this process, now.

    Args:
        device (torch.device): that computes.
        seed (int): of the command.
        weights (dict): sha256 by file name, see `digests`.
    """
    commit, changed = checkout(ROOT)
    return Provenance(
        commit=commit, changed=changed, date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        device=device_model(device), cores=_cores(), versions=_versions(), seed=seed,
        weights=weights or {})


@functools.cache
def checkout(root: Path) -> tuple[str | None, bool | None]:
    """The commit of the checkout `root`, and whether tracked files differ from it; None and None
    where it is none, which a copy of it inside another checkout is not either."""
    top = _git(root, "rev-parse", "--show-toplevel", "HEAD")
    if top is None or len(top.splitlines()) != 2:
        return None, None
    folder, commit = top.splitlines()
    if Path(folder).resolve() != root.resolve():
        return None, None
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True,
                              timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_model(device: torch.device) -> str:
    """The name of the GPU, or the model of the CPU as the system calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu() if device.type == "cpu" else f"{device.type} of {_cpu()}"


@functools.cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "CPU"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # onnxruntime need not be there
            continue
    return found | {"torch": torch.__version__}  # with the build: +cpu, +cu130


def digests(folder: Path, *others: Path) -> dict[str, str]:
    """sha256 of the weights in a model folder, of whichever its manifest lists from there, and of
    other files of weights by their names.

    Raises:
        DD2Error: a file cannot be read.
    """
    known = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    found = {path.name: known.get(path.name) or sha256(path)
             for path in sorted(folder.glob("*.safetensors"))}
    return found | {f"weights={path.name}": sha256(path) for path in others}


def note_machine(folder: Path, device: torch.device, seed: int) -> None:
    """Add this process to those that have trained in the folder of a stage."""
    path = folder / MACHINES
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    now = json.dumps(dataclasses.asdict(provenance(device, seed)), ensure_ascii=False)
    write_atomic(path, f"{before}{now}\n".encode())


def machines(*folders: Path) -> str | None:
    """The devices that have trained in some folders, in order; None if it was not noted."""
    rows = [row for folder in folders if (folder / MACHINES).is_file()
            for row in read_log(folder / MACHINES)]
    return ", then ".join(dict.fromkeys(str(row["device"]) for row in rows if "device" in row)
                          ) or None
