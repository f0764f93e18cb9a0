"""States of sharded runs in parts: every process writes its own, while training goes on.

`state-NNNNNN/` in a stage's folder is what torch.distributed.checkpoint writes, the tensors alone,
and `parts.json`, which is written last, by the first process: step, times, options of the
optimisers, and the sha256 of every file. A folder without it, or with a file that is not as it
says, is no state. Any number of processes reads one, sharded or not, one process as whole tensors.
"""

import contextlib
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.store import names
from dd2core.store.atomic import written
from dd2core.store.files import read_json, sha256, write_json
from train.engine import distributed
from train.engine.processes.guard import together

ABOUT = "parts.json"


def newest(folder: Path) -> Path | None:
    """The last state in parts that was written to its end; None if there is none."""
    found = [path for path in folder.glob("state-*") if (path / ABOUT).is_file()]
    return max(found, key=lambda path: names.step_of(path) or 0, default=None)


def remove(folder: Path, but: Path | None = None) -> None:
    """Remove all states in parts, finished or not, but one."""
    for path in folder.glob("state-*"):
        if path != but:
            shutil.rmtree(path, ignore_errors=True)


class Writer:
    """Writes the states of one stage, one at a time.

    Args:
        folder (Path): the stage's.
        timeout (float): seconds that processes wait for each other while they write.
    """

    def __init__(self, folder: Path, timeout: float):
        self.folder = folder
        # The background must not meet the training's collectives, and NCCL has no threads.
        self.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self.thread: threading.Thread | None = None
        self.failed: list[Exception] = []

    def save(self, tensors: dict[str, Tensor], about: dict, step: int) -> None:
        """Begin to write; returns when a copy is made. A collective of all processes.

        Raises:
            DD2Error: the one before could not be written.
        """
        self.wait()
        path = self.folder / f"state-{step:06d}"
        if distributed.is_main():
            shutil.rmtree(path, ignore_errors=True)
        dist.barrier(self.group)
        copies = {k: a.detach().clone() if a.device.type == "cpu" else a.detach()
                  for k, a in tensors.items()}  # torch itself copies from a GPU
        with _quietly():
            import torch.distributed.checkpoint as dcp  # a second, which others should not pay

            future = dcp.async_save(copies, process_group=self.group,
                                    storage_writer=dcp.FileSystemWriter(path))
        self.thread = threading.Thread(target=self._finish, args=(future, path, about),
                                       name="state in parts")
        self.thread.start()

    def _finish(self, future, path: Path, about: dict) -> None:
        try:
            getattr(future, "upload_completion", future).result()
            if distributed.is_main():
                with written(path):
                    files = {f.name: sha256(f) for f in sorted(path.iterdir())}
                    write_json(path / ABOUT, {**about, "files": files})
                (self.folder / names.STATE).unlink(missing_ok=True)  # older than this
                remove(self.folder, but=path)
        except Exception as error:  # said in `wait`, by the thread that trains
            self.failed.append(error)

    def wait(self) -> None:
        """Wait until what is being written is there; a collective.

        Raises:
            DD2Error: it could not be written.
        """
        self.join()
        with together():
            if self.failed:
                error = self.failed.pop()
                raise DD2Error(f"{self.folder} cannot take a state ({error}): make room or get the "
                               "right to write there; the state before it is as it was.".replace(
                                   "\n", " "))

    def join(self) -> None:
        """Let what is being written come to its end, whether well or not."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None


def read(path: Path, like: Mapping[str, Tensor]) -> tuple[dict, dict[str, Tensor]]:
    """What `save` wrote: `about` and the tensors.

    Args:
        path (Path): a state's folder.
        like (Mapping): tensors by name; those that are sharded there are read as such shards,
            everything else whole. No process reads more than it keeps.

    Raises:
        DD2Error: a file is missing or damaged.
    """
    again = "move it away to go on from the state before, or to train this stage again"
    about = read_json(path / ABOUT)
    if distributed.is_main():  # once for all: see `Run.resume`
        for name, digest in about.get("files", {}).items():
            if not (path / name).is_file() or sha256(path / name) != digest:
                raise DD2Error(f"{path / name} is missing or damaged: {again}.")
    import torch.distributed.checkpoint as dcp

    try:
        reader = dcp.FileSystemReader(path)
        tensors = {k: _room(m, like.get(k))
                   for k, m in reader.read_metadata().state_dict_metadata.items()}
        with _quietly():
            dcp.load(tensors, storage_reader=reader, no_dist=True)
    except Exception as error:  # a foreign folder: torch raises many kinds
        raise DD2Error(f"{path} cannot be read ({type(error).__name__}): {again}.") from None
    return about, tensors


def _room(m, like: Tensor | None) -> Tensor:
    if like is not None and distributed.is_shard(like) and like.shape == m.size:
        return torch.zeros_like(like.detach(), dtype=m.properties.dtype)
    return torch.zeros(m.size, dtype=m.properties.dtype)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\.distributed\.checkpoint")
        yield


# A training state as flat tensors and the rest ---------------------------------------------------

def flat(networks: dict, optimizers: dict) -> tuple[dict[str, Tensor], dict]:
    """State dicts of networks and optimisers → tensors by path, and the options of the latter."""
    tensors = {f"networks/{name}/{k}": a for name, state in networks.items()
               for k, a in state.items()}
    for name, state in optimizers.items():
        for i, moments in state["state"].items():
            tensors |= {f"optimizers/{name}/{i}/{k}": a for k, a in moments.items()}
    return tensors, {name: state["param_groups"] for name, state in optimizers.items()}


def nested(tensors: Mapping[str, Tensor], groups: dict) -> tuple[dict, dict]:
    """The reverse of `flat`, once `groups` have been through JSON."""
    networks: dict = {}
    optimizers = {name: {"state": {}, "param_groups": [_group(g) for g in found]}
                  for name, found in groups.items()}
    for path, a in tensors.items():
        kind, name, key = path.split("/", 2)
        if kind == "networks":
            networks.setdefault(name, {})[key] = a
        else:
            i, _, moment = key.partition("/")
            optimizers[name]["state"].setdefault(int(i), {})[moment] = a
    return networks, optimizers


def _group(group: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
