"""Inception for tests: the real network with random weights, and a tiny one in its place."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorInceptionV3, feature_extractor_inceptionv3

from train.measure.inception import LAYERS, NAME


class TinyInception(nn.Module):
    """uint8 (B, 3, H, W) → features (B, 12), logits (B, 5), as torch-fidelity's tuple."""

    def __init__(self):
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.body = nn.Linear(48, 12)
        self.fc = nn.Linear(12, 5)
        for layer in (self.body, self.fc):
            layer.weight.data.normal_(0, layer.in_features**-0.5, generator=source)
            layer.bias.data.zero_()
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features of 4×4 mean colours."""
        assert images.dtype == torch.uint8 and images.shape[1] == 3
        x = F.relu(self.body(F.adaptive_avg_pool2d(images.float() / 127.5 - 1, 4).flatten(1)))
        return x, 5 * x.mm(self.fc.weight.T)


def use_tiny(weights: str | None, device: torch.device) -> TinyInception:
    """In place of `train.measure.inception.load_inception`."""
    return TinyInception().to(device)


def random_weights(path: Path, monkeypatch) -> Path:
    """A file of weights that fits torch-fidelity's network, made from a random one."""
    with monkeypatch.context() as patch:
        patch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url",
                      lambda url, progress: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3(NAME, LAYERS)
    for p in network.parameters():
        if p.ndim > 1:
            nn.init.kaiming_normal_(p)  # torch's own fades out over so many layers
    torch.save(network.state_dict(), path)
    return path


def pictures(n: int, seed: int, size: int = 32) -> np.ndarray:
    """uint8 (n, size, size, 3): coarse random patches."""
    patches = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), np.uint8)
    return patches.repeat(size // 4, 1).repeat(size // 4, 2)
