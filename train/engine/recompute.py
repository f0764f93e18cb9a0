"""Block checkpointing (`checkpoint_blocks=true` of a stage): activations that are computed twice.

The forward pass keeps what enters each transformer block; the backward pass computes the block
again before it differentiates it. Less memory, a third more arithmetic, the same gradients.
"""

import functools

from torch import nn
from torch.utils.checkpoint import checkpoint

from train.settings.schema import Stage


def checkpoint_blocks(stage: Stage, *networks: nn.Module) -> None:
    """Let networks compute their blocks again in the backward pass, if the stage says so.

    It replaces the blocks' `forward`, so sharding, which hooks in around it, gathers a block's
    weights once for both computations. To be called before `shard`. Random numbers drawn in a block
    are the same both times; where there is no gradient nothing is computed twice.

    Args:
        stage (Stage): see `Stage.checkpoint_blocks`.
        networks (nn.Module): score models, and transformers of teachers.
    """
    if not stage.checkpoint_blocks:
        return
    for network in networks:
        for block in network.backbone.blocks:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
