"""What the processes of a run must have in common before they train: settings, step, weights."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dd2core.errors import DD2Error, some
from train.engine import distributed
from train.settings.schema import Config

# How many tasks a launcher started beside this one: SLURM's srun, MPI's mpirun and mpiexec. A job
# step of srun may have fewer than its allocation.
TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
OWN = ("threads",)  # settings in which processes may differ
SHORT = 60  # characters of a value in a sentence
LOST = ("Timed out", "timed out", "timeout", "Connection closed", "Connection reset",
        "Broken pipe", "Socket closed")  # in what gloo and NCCL say of a process that is gone


def check_launch() -> None:
    """Refuse to be one of several tasks that know nothing of each other.

    Raises:
        DD2Error: srun or mpirun started several, without torchrun's variables.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return
    names = TASKS[1:] if TASKS[0] not in os.environ else (TASKS[0], *TASKS[2:])
    for name in names:
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 1:
            raise DD2Error(
                f"This is one of {value} tasks ({name}), each of which would train as if it were "
                "alone: start one torchrun per node (docs/cluster.md), or unset the variable if "
                "one process is meant.")


def everyone(value) -> list:
    """What each process gives, by rank; a collective."""
    if distributed.world() == 1:
        return [value]
    found = [None] * distributed.world()
    dist.all_gather_object(found, value)
    return found


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What one process refuses in the block, all refuse with the same sentence; a collective."""
    said = None
    try:
        yield
    except DD2Error as error:
        said = str(error)
    first = next((sentence for sentence in everyone(said) if sentence is not None), None)
    if first is not None:
        raise DD2Error(first)


def check_alike(what: str, own: Mapping[str, object], then: str) -> None:
    """Refuse to go on with processes that differ; a collective.

    Args:
        what (str): they differ in, for the sentence.
        own (Mapping): this process's, by name.
        then (str): what to do about it.

    Raises:
        DD2Error: in all processes the same; names what differs, and whose.
    """
    found = everyone(dict(own))
    keys = list(dict.fromkeys(key for each in found for key in each))
    wrong = [_said(key, [each.get(key) for each in found]) for key in keys
             if any(each.get(key) != found[0].get(key) for each in found)]
    if wrong:
        raise DD2Error(f"The processes differ in {what}: {some(wrong)}: {then}.")


def _said(key: str, values: list) -> str:
    whose: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        whose.setdefault(str(value), []).append(rank)
    return " and ".join(
        f"{key}={value if len(value) <= SHORT else '…' + value[-SHORT:]} in process {some(ranks)}"
        for value, ranks in whose.items())


def check_settings(cfg: Config) -> None:
    """Refuse processes that were started with other settings, `out` among them; a collective.

    Raises:
        DD2Error: names the settings.
    """
    found = json.loads(json.dumps(dataclasses.asdict(cfg)))
    own = {k: v for k, v in _flat(found).items() if k not in OWN}
    check_alike("their settings", own, "start all of them with the same words")


def _flat(values: dict, before: str = "") -> dict:
    found: dict = {}
    for key, value in values.items():
        found |= (_flat(value, f"{before}{key}.") if isinstance(value, dict)
                  else {f"{before}{key}": value})
    return found


def check_weights(step: int, networks: Mapping[str, nn.Module]) -> None:
    """Refuse processes that are at another step or hold other weights; a collective.

    Raises:
        DD2Error: names step and networks.
    """
    if distributed.world() == 1:
        return
    own = {"step": step} | {f"weights of {k}": fingerprint(m) for k, m in networks.items()}
    check_alike("what they start from", own, "give all of them the same run folder and the same "
                "files before it")


@torch.no_grad()
def fingerprint(module: nn.Module) -> int:
    """A number that changes with any bit of a module's tensors. What is sharded is left out: no
    two processes hold the same of it."""
    total = 0
    for name, a in sorted(module.state_dict().items()):
        if isinstance(a, Tensor) and not distributed.is_shard(a) and a.numel():
            bits = a.detach().contiguous().flatten().view(
                {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()])
            odd = bits[::2].sum(dtype=torch.int64).item()
            total = hash((total, len(name), a.numel(), odd, bits.sum(dtype=torch.int64).item()))
    return total


@torch.no_grad()
def spread_first(*modules: nn.Module) -> None:
    """Give all processes the first one's weights; a collective. Shards stay as they are."""
    if distributed.world() == 1:
        return
    for module in modules:
        device = next((p.device for p in module.parameters()), None)
        for a in module.state_dict().values():
            if device is not None and isinstance(a, Tensor) and not distributed.is_shard(a):
                first = a.to(device)  # NCCL takes nothing that lies on the CPU
                dist.broadcast(first, 0)
                a.copy_(first)


@contextlib.contextmanager
def lost_is_a_sentence(timeout: float) -> Iterator[None]:
    """Say in words that another process has ended or does not answer.

    Raises:
        DD2Error: in place of what the backend raises.
    """
    try:
        yield
    except DD2Error:
        raise
    except RuntimeError as error:
        if distributed.world() == 1 or not any(word in str(error) for word in LOST):
            raise
        raise DD2Error(
            f"Another process has ended, or has not answered for {timeout:g} s (process "
            f"{distributed.rank()} of {distributed.world()} waited for it): look at what it said, "
            "then the same command goes on at the last saved step.") from error
