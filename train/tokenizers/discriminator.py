"""The patch discriminator of the adversarial term, its hinge losses and R1.

It judges overlapping patches, not whole pictures, as in pix2pix and VQGAN: what it asks for is
sharpness, not that the picture be another one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

WIDEST = 8  # times `width`: the most channels


class PatchDiscriminator(nn.Module):
    """4×4 convolutions: `levels` that halve the resolution, one that does not, and the verdicts.

    Args:
        channels (int): of the images.
        width (int): channels after the first convolution; doubled at each further one.
        levels (int): halvings.
        norm (str): group: GroupNorm between them; spectral: spectral norm of every convolution.
    """

    def __init__(self, channels: int, width: int, levels: int, norm: str):
        super().__init__()
        spectral = spectral_norm if norm == "spectral" else nn.Identity()
        layers: list[nn.Module] = []
        c = channels
        for level in range(levels + 1):
            out = width * min(2**level, WIDEST)
            layers.append(spectral(nn.Conv2d(c, out, 4, 2 if level < levels else 1, padding=1)))
            if norm == "group" and level > 0:
                layers.append(nn.GroupNorm(math.gcd(out, 8), out))
            layers.append(nn.LeakyReLU(0.2))
            c = out
        layers.append(spectral(nn.Conv2d(c, 1, 4, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, channels, H, W) → float32 verdicts (B, 1, h, w), high for originals."""
        return self.layers(images).float()


def smallest_image(levels: int) -> int:
    """The fewest pixels a side of which a discriminator of so many halvings makes a verdict."""
    return 3 * 2**levels


def generator_loss(verdicts: Tensor) -> Tensor:
    """What the tokenizer minimises, (): minus the mean verdict on reconstructions."""
    return -verdicts.mean()


def hinge_loss(of_originals: Tensor, of_reconstructions: Tensor) -> Tensor:
    """What the discriminator minimises, (): verdicts are pushed above 1 and below −1."""
    return 0.5 * (F.relu(1 - of_originals).mean() + F.relu(1 + of_reconstructions).mean())


def r1_penalty(discriminator: nn.Module, images: Tensor) -> Tensor:
    """Squared gradient of the summed verdicts by the originals, mean over images, ()."""
    images = images.detach().requires_grad_().clone()  # no leaf: see `Sharper.pull`
    total = discriminator(images).sum()
    (slope,) = torch.autograd.grad(total, images, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()
