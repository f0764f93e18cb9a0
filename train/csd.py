"""Conditional Score Distillation: `python -m train.csd preset=fashion-llamagen` (method §4).

The guidance network starts from the GTS network, the generator from what `csd.start` names; what is
kept is an average of G: the running one, or with `csd.average=[first,last]` the mean of the
snapshots between those steps.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dd2core.csd import CSDTrainer
from dd2core.ema import EMA
from dd2core.errors import DD2Error
from dd2core.gts import teacher_score
from dd2core.noise import gaussians
from dd2core.schedule import add_noise
from dd2core.store.files import read_tensors, write_json, write_tensors
from dd2core.tools.images import grid_image, to_uint8
from train.data.batches import batch_indices
from train.data.tokens import load_tokens
from train.dd1 import load_pairs, pair_latents
from train.engine import loop, optim
from train.engine.assemble import load_score_model, load_teacher
from train.engine.distributed import average_gradients, is_main, share
from train.engine.run_folder import run_folder
from train.engine.sharding import shard, whole
from train.measure.cost import estimated
from train.settings.cli import main
from train.settings.schema import Config, CSDStage


def first_weights(cfg: Config, start: str) -> tuple[Path, Path]:
    """Files that generator and guidance network start from (see `CSDStage.start`)."""
    run = run_folder(cfg)
    gts = run / "gts" / "score.safetensors"
    if start == "csd":
        return run / "csd" / "generator.safetensors", run / "csd" / "guidance.safetensors"
    return (run / cfg.warm.name / "dd1.safetensors" if start == "warm" else gts), gts


class CSDJob:
    """Networks, optimisers and step of the stages csd and tune."""

    def __init__(self, cfg: Config, teacher, data, opts: CSDStage):
        self.cfg, self.opts, self.teacher, self.data = cfg, opts, teacher, data
        first = first_weights(cfg, opts.start)
        generator, guidance = (load_score_model(cfg, teacher, p, opts.bf16) for p in first)
        self.pairs = None
        if opts.pair_share > 0:
            self.pairs, _ = load_pairs(cfg, teacher, data, cfg.warm)
            self.pair_eps = pair_latents(cfg, teacher, cfg.warm)  # (pairs, L, C)
        average = EMA(generator, opts.ema, opts.ema_warmup)
        shard(cfg, generator, guidance, average.module, teacher.transformer)
        self.optimizers = {"generator": optim.adam(generator, self.opts),
                           "guidance": optim.adam(guidance, self.opts)}
        self.trainer = CSDTrainer(teacher, generator, guidance, self.optimizers["generator"],
                                  self.optimizers["guidance"], self.options(),
                                  average_gradients, average)
        self.networks = {"generator": generator, "guidance": guidance, "ema": average}

    def options(self) -> CSDStage:
        """The stage's own, with what the regression of pairs takes from the stage warm."""
        warm = self.cfg.warm
        return dataclasses.replace(self.opts, pair_sharpness=warm.sharpness,
                                   pair_latent_weight=warm.latent_weight)

    def step(self, i: int) -> dict[str, float]:
        """One iteration; i from 0. Labels follow the data's class frequencies."""
        o, device = self.opts, self.teacher.device
        moving = i >= o.guidance_first
        optim.set_lr(self.optimizers["generator"], o.lr * optim.schedule(i, o) * moving)
        optim.set_lr(self.optimizers["guidance"], o.lr_guidance * optim.schedule(i, o))
        pick = share(batch_indices(len(self.data.labels), o.batch, i, self.cfg.seed))
        eps = torch.randn(len(pick), self.teacher.num_tokens, self.teacher.code_dim, device=device)
        labels = self.data.labels[pick].to(device)
        if self.pairs is None:
            return self.trainer.step(eps, labels)
        chosen = share(batch_indices(len(self.pair_eps), o.batch, i, self.cfg.seed + 1))
        chosen = chosen[: round(o.pair_share * len(pick))]
        eps[: len(chosen)] = self.pair_eps[chosen].to(device)
        labels[: len(chosen)] = self.pairs["labels"][chosen].to(device)
        return self.trainer.step(eps, labels, self.pairs["tokens"][chosen].to(device))

    def snapshot(self, path: Path) -> None:
        """A grid of samples, and beside it the average of G at this step."""
        grid, weights = self.grid(), whole(self.trainer.ema.module.state_dict())
        if not is_main():
            return
        Image.fromarray(grid).save(path)
        beside = path.with_name(path.stem.replace("grid", "generator") + ".safetensors")
        write_tensors(beside, weights, torch.float16)

    @torch.no_grad()
    def grid(self) -> np.ndarray:
        """G, D_Φ and D_ψ on fixed noise: three rows of images in one, uint8 (H, W, channels)."""
        teacher, o, n = self.teacher, self.trainer.o, 10
        labels = (torch.arange(n) % teacher.num_classes).to(teacher.device)
        eps = gaussians(n, teacher.num_tokens, teacher.code_dim, 0).to(teacher.device)
        x = self.trainer.ema.module.generate(eps, labels)  # (n, L, C)
        tokens, psi = teacher.quantise(x), self.trainer.guidance
        t = torch.full((n, teacher.num_tokens, 1), 0.6, device=teacher.device)
        x_t = add_noise(x, gaussians(*x.shape, 1).to(teacher.device), t)
        d_phi = teacher_score(teacher, tokens, labels, o).denoise(x_t, t)
        d_psi = psi(x_t, t, tokens, labels)
        rows = [teacher.decode(teacher.quantise(v)) for v in (x, d_phi, d_psi)]
        images = to_uint8(torch.cat(rows)).permute(0, 2, 3, 1).cpu().numpy()
        return grid_image(images, columns=n)


def mean_of_snapshots(folder: Path, first: int, last: int) -> dict[str, Tensor]:
    """Mean of the weights in `generator-STEP.safetensors` with first ≤ STEP ≤ last.

    Raises:
        DD2Error: there is no such snapshot.
    """
    files = [f for f in sorted(folder.glob("generator-*.safetensors"))
             if first <= int(f.stem.rpartition("-")[2]) <= last]
    if not files:
        raise DD2Error(f"{folder} has no snapshots from step {first} to {last}: see grid_every.")
    found = [read_tensors(f) for f in files]
    return {k: torch.stack([a[k].float() for a in found]).mean(0) for k in found[0]}


def distil(cfg: Config, stage: str) -> None:
    """Run the stage csd or tune; write `generator.safetensors` and `guidance.safetensors`."""
    device, opts = loop.setup(cfg), getattr(cfg, stage)
    if estimated(cfg, stage):
        return
    teacher = load_teacher(cfg, device)
    data = load_tokens(cfg, teacher.tokenizer, device)
    job = CSDJob(cfg, teacher, data, opts)
    folder = loop.run_stage(cfg, stage, job, job.snapshot)
    if cfg.dry_run:
        return
    kept = whole(job.trainer.ema.module.state_dict())
    guidance = whole(job.trainer.guidance.state_dict())
    if not is_main():
        return
    if opts.average:
        kept = mean_of_snapshots(folder, *opts.average)
    write_tensors(folder / "generator.safetensors", kept, torch.float16)
    write_tensors(folder / "guidance.safetensors", guidance, torch.float16)
    write_json(folder / "result.json", {"images": opts.steps * opts.batch})
    print(f"{stage}: {opts.steps} iterations done, weights in {folder}")


def run(cfg: Config) -> None:
    """The stage csd."""
    distil(cfg, "csd")


if __name__ == "__main__":
    main(run)
