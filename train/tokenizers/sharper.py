"""Reconstruction, perceptual and adversarial terms together: one gradient by the pictures."""

import torch
from torch import Tensor, nn

from train.settings.schema import Config
from train.tokenizers.adversary import Adversary, balance
from train.tokenizers.perceptual import load_perceptual


class Sharper:
    """The terms that look at reconstructions, where they are more than L1 and L2.

    Every network that looks is passed through once: its gradient by the reconstructions both
    balances the terms at the decoder's last layer and goes on into the tokenizer.
    """

    def __init__(self, cfg: Config, device: torch.device):
        self.opts, self.device = cfg.tokenizer, device
        perceptual = load_perceptual(cfg)
        self.perceptual = perceptual and perceptual.to(device, memory_format=torch.channels_last)
        self.adversary = Adversary(cfg, device) if self.opts.adversarial > 0 else None

    def pull(
        self, i: int, images: Tensor, recon: Tensor, last: nn.Parameter
    ) -> tuple[Tensor, dict[str, float]]:
        """Gradient of all terms by the reconstructions, and what is to be logged.

        Args:
            i (int): step, from 0.
            images, recon (Tensor): (B, channels, H, W); recon with its graph.
            last (nn.Parameter): weight of the decoder's last layer.
        """
        o, found = self.opts, {}
        # A copy, as the counter of a dry run takes no leaf for a module's input.
        leaf = recon.detach().float().requires_grad_().clone()
        error = leaf - images
        loss = o.l1 * error.abs().mean() + o.l2 * error.square().mean()
        if self.perceptual is not None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=o.bf16):
                distance = self.perceptual(images, leaf)
            loss, found["perceptual"] = loss + o.perceptual * distance, distance.item()
        (grad,) = torch.autograd.grad(loss, leaf)
        if self.adversary is not None and self.adversary.at_work(i):
            push = self.adversary.push(leaf)
            found["balance"] = balance(recon, grad, push, last) if o.adaptive else 1.0
            grad = grad + self.adversary.weight(i) * found["balance"] * push
        return grad, found

    def after(self, i: int, images: Tensor, recon: Tensor) -> dict[str, float]:
        """The discriminator's own step, after the tokenizer's."""
        if self.adversary is None or not self.adversary.at_work(i):
            return {}
        return self.adversary.update(i, images, recon.detach())


def sharper(cfg: Config, device: torch.device) -> Sharper | None:
    """The terms of the settings; None where L1 and L2 are all."""
    o = cfg.tokenizer
    return Sharper(cfg, device) if o.perceptual > 0 or o.adversarial > 0 else None
