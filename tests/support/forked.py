"""Processes forked from this one, alone or as torchrun starts them: nothing is imported again."""

import contextlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from train.engine import distributed


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _child(work: Callable, said: Path, variables: dict[str, str], args: tuple) -> None:
    os.environ.update(variables)
    with open(said, "w") as f:
        for stream in (1, 2):
            os.dup2(f.fileno(), stream)
    sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
    torch.set_num_threads(1)
    try:
        work(*args)
    finally:
        distributed.leave()
        sys.stdout.flush(), sys.stderr.flush()


@contextlib.contextmanager
def alone(said: Path, work: Callable, *args) -> Iterator[multiprocessing.Process]:
    """`work(*args)` in a process of its own, as a command that a user types; what it says: `said`.
    It is killed if it is left at the end of the block."""
    child = multiprocessing.get_context("fork").Process(target=_child, args=(work, said, {}, args))
    child.start()
    try:
        yield child
    finally:
        if child.is_alive():
            child.kill()
        child.join()


@contextlib.contextmanager
def started(folder: Path, work: Callable, *args, world: int = 2, local: int | None = None
            ) -> Iterator[list[multiprocessing.Process]]:
    """`work(rank, *args)` in `world` processes, `local` of them on each "node"; those that are
    left at the end of the block are killed. What they say: `folder`/said-RANK."""
    port, local, fork = _free_port(), local or world, multiprocessing.get_context("fork")
    children = []
    for rank in range(world):
        variables = {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank % local),
                     "LOCAL_WORLD_SIZE": str(local), "MASTER_ADDR": "127.0.0.1",
                     "MASTER_PORT": str(port)}
        children.append(fork.Process(target=_child, args=(work, folder / f"said-{rank}",
                                                          variables, (rank, *args))))
    for child in children:
        child.start()
    try:
        yield children
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
            child.join()


def forked(folder: Path, work: Callable, *args, world: int = 2, local: int | None = None,
           seconds: float = 900) -> list[tuple[int | None, str]]:
    """Exit status and words of each process, by rank; None for one that does not end."""
    with started(folder, work, *args, world=world, local=local) as children:
        for child in children:
            child.join(seconds)
        codes = [child.exitcode for child in children]
    return [(code, (folder / f"said-{rank}").read_text()) for rank, code in enumerate(codes)]
