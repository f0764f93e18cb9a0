"""Optimiser, learning-rate schedule and one update."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dd2core.noise import Part, same_draws
from dd2core.tools.gradients import backward_mean, clip_gradients
from train.engine import distributed
from train.engine.sharding import average_in_last
from train.settings.schema import Stage


def schedule(i: int, stage: Stage, lr: float | None = None, warm: float | None = None) -> float:
    """Learning rate of step i as a fraction of the peak: linear warm-up, then cosine.

    Args:
        i (int): step, from 0.
        stage (Stage): warm-up, decay and number of steps.
        lr (float | None): the peak, which `lr_start` is a part of; None is the stage's.
        warm (float | None): how far the warm-up is, 1 at its end and later; None counts steps.
    """
    warm = min(1.0, (i + 1) / max(1, stage.warmup) if warm is None else warm)
    first = min(1.0, stage.lr_start / (lr or stage.lr)) if stage.lr_start else 0.0
    warm = first + (1 - first) * warm
    done = min(1.0, i / max(1, stage.steps))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())
    return warm * (stage.lr_final + (1 - stage.lr_final) * cosine)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def adam(module: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; weight decay on matrices only."""
    params = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": stage.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.lr, betas=(stage.beta1, stage.beta2))


def optimise(
    loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, stage: Stage, i: int
) -> float:
    """Backward, averaging over processes, clipping, learning rate of step i, optimiser step.

    Returns:
        float: gradient norm before clipping.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    return _take(module, optimizer, stage, i)


def optimise_parts(
    loss_of: Callable[[Part], Tensor], module: nn.Module, optimizer: torch.optim.Optimizer,
    stage: Stage, i: int,
) -> tuple[float, float]:
    """`optimise` by the mean gradient of a batch that is worked on in `stage.accumulate` passes.

    Args:
        loss_of (Callable): the mean loss of a part of the batch; what it draws is drawn for the
            whole batch (`Part`).
        module, optimizer, stage, i: as in `optimise`.

    Returns:
        tuple[float, float]: mean of this process's losses; gradient norm before clipping.
    """
    parts = distributed.own_part().split(stage.accumulate)
    optimizer.zero_grad(set_to_none=True)
    losses = (loss_of(part) for part in same_draws(parts, next(module.parameters()).device))
    loss = backward_mean(module, losses, len(parts), average_in_last)
    return loss.item(), _take(module, optimizer, stage, i)


def _take(module: nn.Module, optimizer: torch.optim.Optimizer, stage: Stage, i: int) -> float:
    distributed.average_gradients(module)
    norm = clip_gradients(module, stage.clip)
    set_lr(optimizer, stage.lr * schedule(i, stage))
    optimizer.step()
    return norm
