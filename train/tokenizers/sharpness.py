"""How sharp pictures are: their mean gradient energy."""

from torch import Tensor


def gradient_energy(images: Tensor) -> Tensor:
    """Mean |x[i+1] − x[i]| of neighbouring pixels, down and across, of images (B, channels, H, W).

    Blurred pictures have less of it; the ratio of reconstructions to originals is 1 where both are
    equally sharp.

    Returns:
        Tensor: float32 (B,).
    """
    x = images.float()
    down, across = x.diff(dim=2).abs().mean((1, 2, 3)), x.diff(dim=3).abs().mean((1, 2, 3))
    return (down + across) / 2
