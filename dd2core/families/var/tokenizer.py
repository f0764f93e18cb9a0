"""The multi-scale residual VQ tokenizer of the VAR family: images ↔ maps of codes at K scales.

Encoder and decoder are those of `dd2core.families.blocks`; in between stands the residual pyramid.
The official tokenizer (VAR) is `VARTokenizerConfig()`; the tiny ones differ in numbers only.
"""


import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.families.blocks import Decoder, Encoder
from dd2core.families.var.pyramid import Pyramid
from dd2core.families.var.settings import VARTokenizerConfig
from dd2core.tools.numerics import nearest_code


class VARTokenizer(nn.Module):
    """Encoder, residual pyramid over one codebook, decoder (method §7, VAR row)."""

    def __init__(self, cfg: VARTokenizerConfig):
        super().__init__()
        factor = cfg.patch * 2 ** (len(cfg.mult) - 1)
        if cfg.image_size % factor or cfg.image_size // factor != (0, *cfg.patch_nums)[-1]:
            raise DD2Error(
                f"image_size={cfg.image_size}, in patches of {cfg.patch} and halved "
                f"{len(cfg.mult) - 1} times, must be the last of patch_nums={list(cfg.patch_nums)}."
            )
        self.cfg = cfg
        self.encoder, self.decoder = Encoder(cfg), Decoder(cfg)
        n = cfg.projection
        self.quant_conv = nn.Conv2d(cfg.z_channels, cfg.code_dim, n, padding=n // 2)
        self.post_quant_conv = nn.Conv2d(cfg.code_dim, cfg.z_channels, n, padding=n // 2)
        self.pyramid = Pyramid(cfg.patch_nums, cfg.code_dim, cfg.phi_convs, cfg.phi_ratio)
        self.embedding = nn.Parameter(torch.randn(cfg.num_codes, cfg.code_dim))

    @property
    def codes(self) -> Tensor:
        """Stored code vectors, shape (V, C)."""
        return self.embedding

    def feature_map(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) in [−1, 1] → f (B, p_K², C), at least float32."""
        f = self.quant_conv(self.encoder(images))  # (B, C, p_K, p_K)
        return f.flatten(2).mT.to(self.embedding.dtype)

    def search(self, f: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Nearest codes of a feature map f (B, p_K², C), scale after scale.

        Returns:
            tokens (B, L); the vectors that were looked up (B, L, C); f̂ after each scale, K tensors
            (B, p_K², C), differentiable in the codes and φ.
        """
        codes, tokens = self.codes, []

        def look_up(rest: Tensor) -> Tensor:
            tokens.append(nearest_code(rest.detach(), codes.detach()))
            return F.embedding(tokens[-1], codes)

        residuals, sums = self.pyramid.split(f, look_up)
        return torch.cat(tokens, 1), residuals, sums

    def features(self, images: Tensor) -> Tensor:
        """The vectors that are looked up, scale after scale: images → (B, L, C)."""
        return self.search(self.feature_map(images))[1]

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) in [−1, 1] → tokens (B, L), int64."""
        return self.search(self.feature_map(images))[0]

    def decode_map(self, f: Tensor) -> Tensor:
        """f̂ (B, p_K², C) → images (B, in_channels, H, W), not clamped."""
        p = self.cfg.patch_nums[-1]
        f = f.view(len(f), p, p, -1).permute(0, 3, 1, 2)  # channels last
        return self.decoder(self.post_quant_conv(f))

    def decode(self, tokens: Tensor, scales: int | None = None) -> Tensor:
        """Tokens (B, L) → images (B, in_channels, H, W), clamped to [−1, 1].

        Only the first `scales` scales are painted, if given.
        """
        return self.decode_map(self.pyramid.merge(self.codes[tokens], scales)).clamp(-1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One straight-through pass for training.

        Returns:
            reconstruction (B, in_channels, H, W); tokens (B, L); codebook loss ‖sg f − f̂_k‖² and
            commitment loss ‖f − sg f̂_k‖², both scalar means over numbers and scales k.
        """
        f = self.feature_map(images)  # (B, p_K², C)
        tokens, _, after = self.search(f.detach())
        sums = torch.stack(after)  # (K, B, p_K², C)
        codebook_loss = (sums - f.detach()).square().mean()
        commitment = (sums.detach() - f).square().mean()
        recon = self.decode_map(f + (sums[-1] - f).detach())  # straight-through
        return recon, tokens, codebook_loss, commitment

    @torch.no_grad()
    def revive(self, unused: Tensor, features: Tensor, generator: torch.Generator) -> None:
        """Re-seed unused codes from vectors that were looked up, so that usage stays alive.

        Args:
            unused (Tensor): bool, shape (V,).
            features (Tensor): vectors of a batch, shape (n, C).
            generator (torch.Generator): CPU source of randomness.
        """
        # One for every code, so that what a code gets does not hang on which others are unused.
        pick = torch.randint(len(features), (len(self.embedding),), generator=generator)
        pick = pick.to(features.device)[unused]
        self.embedding[unused] = features[pick].to(self.embedding.dtype)
