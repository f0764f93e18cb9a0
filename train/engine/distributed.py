"""Data parallelism: `torchrun --nproc-per-node=N -m train.STAGE …` on one or more machines.

Every rank holds the whole networks (with `shard=true` a part of them: `train.engine.sharding`) and
takes its share of the batch, in one pass or several (`Stage.accumulate`); gradients are averaged in
one all-reduce per update. A process started without torchrun is rank 0 of 1. Backend: NCCL on CUDA,
gloo elsewhere, so it also puts two single-threaded processes on a two-core CPU.
"""

import atexit
import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.noise import Part
from dd2core.store.names import ADAPT_FIT
from train.engine.processes import heartbeat
from train.settings.schema import Config, Stage

_beating: list[heartbeat.Heartbeat] = []


def start(device: torch.device, timeout: float = Config.timeout) -> torch.device:
    """Join the group that torchrun made, if there is one; returns this rank's device.

    Args:
        device (torch.device): of its kind.
        timeout (float): seconds that a process waits for the others in a collective, and after
            which one that gives no sign of life ends the run (`heartbeat`).
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo",
                                timeout=timedelta(seconds=timeout))
        atexit.register(leave)  # left open, its threads may abort the process while it exits
        beats = heartbeat.begin(rank(), world(), timeout)
        _beating[:] = [beats] if beats else []
    return device


def leave() -> None:
    """Leave torchrun's group, if this process is in one."""
    while _beating:
        _beating.pop().stop()
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def own_part() -> Part:
    """Which rows of a batch are this process's."""
    return Part(rank(), world())


def check_batch(stage: str, opts: Stage) -> None:
    """Refuse a batch that cannot be divided evenly into passes; adapt_fit sees all codes each step.

    Raises:
        DD2Error: processes × accumulate does not divide it.
    """
    if stage != ADAPT_FIT and opts.batch % (world() * opts.accumulate):
        raise DD2Error(f"{stage}.batch={opts.batch} does not divide into {world()} processes × "
                       f"{stage}.accumulate={opts.accumulate} passes: change one.")


def is_shard(a: Tensor) -> bool:
    """Whether a tensor is one process's part of a larger one (a DTensor).

    By what it can do: importing the class takes a second, which only sharded runs should pay.
    """
    return hasattr(a, "full_tensor")


def average_gradients(module: nn.Module) -> None:
    """Replace every gradient by its mean over the processes; those of shards are that already."""
    if world() == 1:
        return
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    if any(is_shard(g) for g in grads):
        return  # FSDP has averaged them on the way to their shards
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= world()
    for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        g.copy_(part.view_as(g))


def mean(a: Tensor) -> Tensor:
    """Mean of a tensor over the processes; itself where there is one."""
    return total(a) / world() if world() > 1 else a


def total(a: Tensor) -> Tensor:
    """Sum of a tensor over the processes; itself where there is one."""
    if world() > 1:
        a = a.clone()
        dist.all_reduce(a)
    return a


def whole_batch(rows: Tensor) -> Tensor:
    """The rows of the whole batch (n, …), in order, of each process's own part of them."""
    if world() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world())]
    dist.all_gather(parts, rows.contiguous())
    return torch.stack(parts, 1).flatten(0, 1)


def average(metrics: dict[str, float], device: torch.device) -> dict[str, float]:
    """Mean of the logged numbers over the processes."""
    if world() == 1:
        return metrics
    flat = torch.tensor(list(metrics.values()), dtype=torch.float32, device=device)
    dist.all_reduce(flat)
    return dict(zip(metrics, (flat / world()).tolist(), strict=True))


def anyone(yes: bool, device: torch.device) -> bool:
    """Whether any of the processes says yes; a collective."""
    if world() == 1:
        return yes
    flag = torch.tensor(float(yes), device=device)
    dist.all_reduce(flag)
    return flag.item() > 0


def gather(parts: dict) -> dict:
    """The union of the processes' dictionaries."""
    if world() == 1:
        return parts
    everyone = [None] * world()
    dist.all_gather_object(everyone, parts)
    return {k: v for part in everyone for k, v in part.items()}


def single_process(stage: str) -> None:
    """Refuse torchrun for a stage that is small enough for one device.

    Raises:
        DD2Error: there is more than one process.
    """
    if world() > 1:
        raise DD2Error(f"train.{stage} runs in one process: start it without torchrun.")
