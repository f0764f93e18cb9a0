"""The adversarial term: the discriminator as it is trained, and what it tells the tokenizer."""

import dataclasses

import torch
from torch import Tensor, nn

from dd2core.errors import DD2Error
from train.engine import distributed, optim
from train.settings.schema import Config
from train.tokenizers.discriminator import (
    PatchDiscriminator,
    generator_loss,
    hinge_loss,
    r1_penalty,
    smallest_image,
)

R1_EVERY = 8  # steps between penalties, each of so many times the weight
# Bound of the adaptive weight. VQGAN's is 10⁴; measured on emoji, a discriminator that cannot tell
# for a while, and so hardly pushes, was amplified there until reconstructions broke.
MOST = 1.0


class Adversary:
    """Discriminator and optimiser; learns from step `adversarial_from` on.

    Args:
        cfg (Config): the experiment.
        device (torch.device): of the networks.

    Raises:
        DD2Error: the images are too small for so many levels.
    """

    def __init__(self, cfg: Config, device: torch.device):
        o = cfg.tokenizer
        if cfg.image_size < smallest_image(o.disc_levels):
            raise DD2Error(f"tokenizer.disc_levels={o.disc_levels} needs images of at least "
                           f"{smallest_image(o.disc_levels)} pixels: use fewer.")
        self.opts, self.device = o, device
        lr = o.lr if o.lr_discriminator is None else o.lr_discriminator
        # A short memory of the gradient, as in VQGAN: what it plays against moves.
        self.own = dataclasses.replace(o, lr=lr, beta1=0.5, beta2=0.9, weight_decay=0.0)
        model = PatchDiscriminator(cfg.channels, o.disc_width, o.disc_levels, o.disc_norm)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.optimizer = optim.adam(self.model, self.own)

    def at_work(self, i: int) -> bool:
        """Whether step i has the term."""
        return i >= self.opts.adversarial_from

    def weight(self, i: int) -> float:
        """Of the term in step i: it rises over `warmup` steps, as a discriminator that has learned
        nothing yet pushes anywhere."""
        since = i - self.opts.adversarial_from + 1
        return self.opts.adversarial * min(1.0, since / max(1, self.opts.warmup))

    def push(self, recon: Tensor) -> Tensor:
        """Gradient of the tokenizer's loss by the reconstructions (B, channels, H, W), a leaf."""
        with self._autocast():
            loss = generator_loss(self.model(recon))
        return torch.autograd.grad(loss, recon)[0]

    def update(self, i: int, images: Tensor, recon: Tensor) -> dict[str, float]:
        """One step of the discriminator on originals and reconstructions, both without gradient."""
        with self._autocast():
            both = self.model(torch.cat([images, recon.to(images.dtype)]))
        real, fake = both.chunk(2)
        loss = total = hinge_loss(real, fake)
        if self.opts.r1 > 0 and i % R1_EVERY == 0:
            total = loss + self.opts.r1 / 2 * R1_EVERY * r1_penalty(self.model, images)
        optim.optimise(total, self.model, self.optimizer, self.own, i)
        return {"d_loss": loss.item(), "d_real": real.mean().item(), "d_fake": fake.mean().item()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.opts.bf16)


def balance(recon: Tensor, pull: Tensor, push: Tensor, last: nn.Parameter) -> float:
    """VQGAN's adaptive weight: how much longer one gradient is than the other at the last layer.

    Args:
        recon (Tensor): reconstructions with their graph, (B, channels, H, W).
        pull, push (Tensor): gradients by them of reconstruction and of the discriminator.
        last (nn.Parameter): weight of the decoder's last layer.

    Returns:
        float: |pull| / |push| there, of the means over the processes; in [0, `MOST`].
    """
    lengths = []
    for grad in (pull, push):
        (at,) = torch.autograd.grad(recon, last, grad.to(recon.dtype), retain_graph=True)
        lengths.append(distributed.mean(at.float()).norm().item())
    return min(lengths[0] / (lengths[1] + 1e-4), MOST)
