"""The VQ tokenizer of the LlamaGen family: images ↔ a square grid of l2-normalised codes.

Encoder and decoder are in `dd2core.families.blocks`. The official VQ-16 is `VQConfig()`; the tiny
ones differ in numbers only."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.families.blocks import Decoder, Encoder
from dd2core.families.llamagen.settings import VQConfig
from dd2core.tools.numerics import nearest_code


class VQTokenizer(nn.Module):
    """Encoder, l2-normalised codebook and decoder (method §7, LlamaGen row)."""

    def __init__(self, cfg: VQConfig):
        super().__init__()
        factor = cfg.patch * 2 ** (len(cfg.mult) - 1)
        if cfg.image_size % factor:
            raise DD2Error(
                f"image_size={cfg.image_size} is not a multiple of {factor}: the tokenizer takes "
                f"patches of {cfg.patch} and halves what is left {len(cfg.mult) - 1} times."
            )
        self.cfg = cfg
        self.encoder, self.decoder = Encoder(cfg), Decoder(cfg)
        self.quant_conv = nn.Conv2d(cfg.z_channels, cfg.code_dim, 1)
        self.post_quant_conv = nn.Conv2d(cfg.code_dim, cfg.z_channels, 1)
        self.embedding = nn.Parameter(F.normalize(torch.randn(cfg.num_codes, cfg.code_dim)))

    @property
    def codes(self) -> Tensor:
        """Unit code vectors, shape (V, C)."""
        return F.normalize(self.embedding, dim=-1)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) in [−1, 1] → unit vectors (B, L, C) before look-up."""
        z = self.quant_conv(self.encoder(images))  # (B, C, grid, grid)
        return F.normalize(z.flatten(2).mT, dim=-1)  # (B, L, C)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) in [−1, 1] → tokens (B, L), int64."""
        return nearest_code(self.features(images), self.codes)

    def decode_vectors(self, z: Tensor) -> Tensor:
        """Unit code vectors (B, L, C) → images (B, in_channels, H, W), not clamped."""
        g = self.cfg.grid
        return self.decoder(self.post_quant_conv(z.mT.reshape(z.shape[0], -1, g, g)))

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) → images (B, in_channels, H, W), clamped to [−1, 1]."""
        # Those codes alone: all of them to unit length takes as long as a small convolution
        codes = F.normalize(self.embedding[tokens], dim=-1)  # (B, L, C)
        return self.decode_vectors(codes).clamp(-1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One straight-through pass for training.

        Returns:
            reconstruction (B, in_channels, H, W); tokens (B, L); codebook loss ‖sg z − c‖² and
            commitment loss ‖z − sg c‖², both scalar means over tokens.
        """
        z = self.features(images)  # (B, L, C)
        codes = self.codes  # (V, C)
        tokens = nearest_code(z.detach(), codes.detach())  # (B, L)
        c = codes[tokens]  # (B, L, C)
        codebook_loss = (z.detach() - c).square().sum(-1).mean()
        commitment = (z - c.detach()).square().sum(-1).mean()
        recon = self.decode_vectors(z + (c - z).detach())  # straight-through
        return recon, tokens, codebook_loss, commitment

    @torch.no_grad()
    def revive(self, unused: Tensor, features: Tensor, generator: torch.Generator) -> None:
        """Re-seed unused codes from encoder features, so that usage stays alive.

        Args:
            unused (Tensor): bool, shape (V,).
            features (Tensor): unit vectors of a batch, shape (n, C).
            generator (torch.Generator): CPU source of randomness.
        """
        # One for every code, so that what a code gets does not hang on which others are unused.
        pick = torch.randint(len(features), (len(self.embedding),), generator=generator)
        pick = pick.to(features.device)[unused]
        self.embedding[unused] = features[pick].to(self.embedding.dtype)
