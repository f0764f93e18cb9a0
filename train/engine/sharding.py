"""Sharding (`shard=true` under torchrun): networks that are too large for every device to hold.

PyTorch's FSDP2 divides parameters, gradients, Adam's moments and the weight average among the
processes, and gathers the parameters of a block while the block computes, forward and backward.
What is written is whole, as without sharding, so a run may go on with another number of processes
or with none of this. One process has nothing to divide: there the setting changes nothing.
"""

import os
import warnings

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.utils._pytree import tree_leaves, tree_map

from dd2core.errors import DD2Error
from dd2core.score_model import ConditionalScoreModel
from train.engine.distributed import is_main, is_shard, world
from train.engine.processes.guard import spread_first
from train.settings.schema import Config


def shard(cfg: Config, *networks: nn.Module) -> None:
    """Divide networks among the processes, if the settings say so and there are several.

    Copies of a network (the average, a backbone from a teacher) must be made before, optimisers
    after, because the parameters become others. Each process keeps its part of the weights that the
    first one has.

    Args:
        cfg (Config): see `Config.shard` and `shard_in_node`.
        networks (nn.Module): score models, and transformers of teachers.

    Raises:
        DD2Error: `shard_in_node`, and the nodes have other numbers of processes.
    """
    if not cfg.shard or world() == 1:
        return
    from torch.distributed.fsdp import fully_shard  # a second, which others should not pay

    # It warns of writing into what a block returns; nothing here does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    mesh = processes_of(cfg, next(networks[0].parameters()).device)
    spread_first(*networks)
    for network in networks:
        for part in (*network.backbone.blocks, *called(network)):
            # Freed after every forward pass. FSDP's default keeps the outermost parts gathered
            # for the backward pass; where none follows (ψ's features for CSD, the average, the
            # teacher), the next pass would see the weights from before the optimiser's step.
            fully_shard(part, mesh=mesh, reshard_after_forward=True)


def processes_of(cfg: Config, device: torch.device) -> DeviceMesh:
    """Among which processes everything is divided: all of them, or, hybrid, those of each node,
    where every node holds the whole and gradients are also averaged among the nodes."""
    if not cfg.shard_in_node:
        return init_device_mesh(device.type, (world(),))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world()))
    if world() % local:
        raise DD2Error(f"shard_in_node=true needs as many processes on every node: {world()} do "
                       f"not divide into nodes of {local}.")
    return init_device_mesh(device.type, (world() // local, local),
                            mesh_dim_names=("nodes", "processes"))


def called(network: nn.Module) -> list[nn.Module]:
    """The parts that hold all of a network's parameters and are used by calling them.

    Calling is when FSDP gathers. A score model itself is used through `features`, `denoise` and
    `generate`; they call its backbone and its head.
    """
    if isinstance(network, ConditionalScoreModel):
        return [network.backbone, network.head]
    return [network]


def average_in_last(network: nn.Module, last: bool) -> None:
    """Average sharded gradients among the processes in an update's last backward pass alone.

    Until then each process sums whole ones, so that several passes communicate gradients once.
    Without sharding there is nothing to do (`distributed.average_gradients`).
    """
    for part in network.modules():
        if hasattr(part, "set_requires_gradient_sync"):  # of FSDP
            part.set_requires_gradient_sync(last, recurse=False)


def takes_part(cfg: Config) -> bool:
    """Whether this process is needed for what only the main one writes.

    Gathering shards is a collective: with sharding all of them must save, paint grids and measure.
    """
    return is_main() or cfg.shard


def whole(state: dict) -> dict:
    """A state without shards: nested dictionaries and lists of tensors, numbers and strings.

    Shards are gathered tensor by tensor and end on the main process's CPU; the others get None in
    their place, so that no other holds a whole state. A collective, where anything is sharded;
    elsewhere the state itself comes back.
    """
    if not any(is_shard(a) for a in tree_leaves(state)):
        return state
    return tree_map(lambda a: _gathered(a) if is_shard(a) else a, state)


def _gathered(a: Tensor) -> Tensor | None:
    full = a.full_tensor()
    return full.cpu() if is_main() else None


def spread(a: Tensor, like: Tensor | None) -> Tensor:
    """This process's shard of a whole tensor, if `like`, of the same shape, is sharded.

    Anything else, such as a shard, comes back as it is. No communication: every process has read
    the whole tensor.
    """
    if not is_shard(like) or is_shard(a) or a.shape != like.shape:
        return a
    from torch.distributed.tensor import distribute_tensor

    found = distribute_tensor(a, like.device_mesh, like.placements, src_data_rank=None)
    return found.clone()  # a view would keep the whole tensor alive


def spread_weights(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A whole state dict of `module` as `module`'s own is sharded; names are not checked."""
    own = module.state_dict()
    return {k: spread(a, own[k]) if k in own else a for k, a in state.items()}


def spread_moments(state: dict, optimizer: torch.optim.Optimizer) -> dict:
    """A whole state dict of an optimiser as its parameters are sharded; `step` is for all."""
    params = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    moments = {i: {k: spread(a, params.get(i)) for k, a in found.items()}
               for i, found in state["state"].items()}
    return {**state, "state": moments}
