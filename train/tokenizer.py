"""Train the VQ tokenizer: `python -m train.tokenizer preset=fashion-llamagen`.

Reconstruction (L1 + L2), codebook and commitment losses, straight-through gradients; codes that go
unused are re-seeded from the batch. A perceptual and an adversarial term sharpen it, where the
settings have them (`train.tokenizers`). The weight average is what is kept. With
`tokenizer.decoder_only=true` encoder and codes stay those of `tokenizer.init`, so that a teacher of
theirs, and its generator, get a lighter or a sharper decoder (`tokenizer.decoder_res_blocks`).
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from dd2core.ema import EMA
from dd2core.noise import stream_seed
from dd2core.store.files import write_json, write_tensors
from dd2core.store.names import RESULT, weights
from dd2core.tools.images import to_float
from train.engine import distributed, loop, optim
from train.engine.assemble import new_tokenizer
from train.engine.base import check_own
from train.engine.distributed import is_main
from train.settings.cli import main
from train.settings.schema import Config
from train.tokenizers.images import Images
from train.tokenizers.sharper import sharper
from train.tokenizers.sharpness import gradient_energy
from train.tokenizers.start import begin_from, freeze_all_but_decoder


class TokenizerJob:
    """Networks, optimiser and step of the tokenizer stage."""

    def __init__(self, cfg: Config, data: Images, device: torch.device):
        self.cfg, self.opts, self.device, self.data = cfg, cfg.tokenizer, device, data
        model = new_tokenizer(cfg)
        if self.opts.init:
            begin_from(model, self.opts.init, self.opts.decoder_only)
        if self.opts.decoder_only:
            freeze_all_but_decoder(model)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.ema = EMA(self.model, self.opts.ema)
        used = torch.nn.Module()  # how often each code was used since the last re-seeding
        used.register_buffer("count", torch.zeros(self.opts.num_codes, device=device))
        self.used = used
        self.networks = {"model": self.model, "ema": self.ema, "used": used}
        self.optimizers = {"model": optim.adam(self.model, self.opts)}
        self.sharper = sharper(cfg, device)
        if self.sharper is not None and self.sharper.adversary is not None:
            self.networks["discriminator"] = self.sharper.adversary.model
            self.optimizers["discriminator"] = self.sharper.adversary.optimizer

    def batch(self, i: int) -> Tensor:
        """This process's images of step i, in [−1, 1]."""
        return self.data.batch(i).to(self.device, memory_format=torch.channels_last)

    def step(self, i: int) -> dict[str, float]:
        """One step; i from 0."""
        o = self.opts
        images = self.batch(i)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.bf16):
            recon, tokens, codebook_loss, commitment = self.model(images)
        error = recon.float() - images
        l1, l2 = error.abs().mean(), error.square().mean()
        loss, found = o.l1 * l1 + o.l2 * l2 + codebook_loss + o.commitment * commitment, {}
        steered = loss
        if self.sharper is not None:
            grad, found = self.sharper.pull(i, images, recon, self.model.decoder.conv_out.weight)
            steered = (recon.float() * grad).sum() + codebook_loss + o.commitment * commitment
        optim.optimise(steered, self.model, self.optimizers["model"], o, i)
        self.ema.update(self.model)
        used = self.revive(i, images, tokens)
        if self.sharper is not None:
            found |= self.sharper.after(i, images, recon)
        return {"loss": loss.item(), "mse": l2.item(), "l1": l1.item(),
                "commitment": commitment.item(), "codes_used": used,
                "energy": energy_ratio(recon.detach(), images), **found}

    def revive(self, i: int, images: Tensor, tokens: Tensor) -> int:
        """Count usage; every `revive_every` steps re-seed the codes unused since the last time.

        Of all processes together, so that each has the same codes.
        """
        count = self.used.count
        count += distributed.total(torch.bincount(tokens.flatten(), minlength=len(count)))
        alive = int((count > 0).sum())
        # Late in training codes are left in peace: a re-seeded one would not settle any more.
        if (i + 1) % self.opts.revive_every == 0:
            late = i >= 0.8 * self.opts.steps or self.opts.decoder_only
            if not late and alive < len(count):
                with torch.no_grad():
                    features = distributed.whole_batch(self.model.features(images)).flatten(0, 1)
                source = torch.Generator().manual_seed(stream_seed(self.cfg.seed, "revive", i))
                self.model.revive(count == 0, features, source)
            count.zero_()
        return alive

    def finish(self, folder: Path) -> None:
        """Measure and write the average of the tokenizer."""
        if not is_main():
            return
        best = self.ema.module.eval()
        found = measure(best, self.data.test(), self.device)
        write_tensors(folder / weights("tokenizer"), best.state_dict(), torch.float16)
        write_json(folder / RESULT, found)
        print(f"tokenizer: MSE {found['test_mse']:.5f} on [-1, 1], gradient energy "
              f"{found['gradient_energy']:.3f} of the originals', {found['codes_used']} codes in "
              f"use, N = {found['n']} test images")


def run(cfg: Config) -> None:
    """Train, then write `tokenizer.safetensors` and its measured reconstruction error."""
    check_own(cfg, "tokenizer")
    device = loop.setup(cfg)
    loop.run_stage(cfg, "tokenizer", TokenizerJob(cfg, Images(cfg), device))


@torch.no_grad()
def measure(
    model: torch.nn.Module, images: Iterable[Tensor], device: torch.device
) -> dict[str, float]:
    """What a tokenizer makes of batches of uint8 images (n, channels, H, W).

    Returns:
        dict: `test_mse`, mean squared error on [−1, 1]; `gradient_energy`, mean |∇x| of the
        reconstructions relative to that of the images; `codes_used`; `n`.
    """
    error, energy, wanted, n, seen = 0.0, 0.0, 0.0, 0, set()
    for part in images:
        x = to_float(part).to(device)
        tokens = model.encode(x)
        recon = model.decode(tokens)
        error += (recon - x).square().mean((1, 2, 3)).sum().item()
        energy += gradient_energy(recon).sum().item()
        wanted += gradient_energy(x).sum().item()
        seen.update(tokens.flatten().tolist())
        n += len(part)
    return {"test_mse": error / n, "gradient_energy": energy / max(wanted, 1e-12),
            "codes_used": len(seen), "n": n}


def energy_ratio(recon: Tensor, images: Tensor) -> float:
    """Mean |∇x| of reconstructions, as they are shown, relative to that of the images."""
    wanted = gradient_energy(images).mean().item()
    return gradient_energy(recon.float().clamp(-1, 1)).mean().item() / max(wanted, 1e-12)


if __name__ == "__main__":
    main(run)
