"""Conditional Score Distillation: `python -m train.csd preset=fashion-llamagen` (method §4).

The guidance network starts from the GTS network, the generator from what `csd.start` names; what is
kept is an average of G: the running one, or with `csd.average=[first,last]` the mean of the
snapshots between those steps; with `start_share` mixed with what G began as.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dd2core.csd import CSDTrainer, average_of
from dd2core.errors import DD2Error, some
from dd2core.gts import teacher_score
from dd2core.noise import gaussians, stream_seed
from dd2core.schedule import add_noise
from dd2core.store import names
from dd2core.store.files import read_tensors, write_atomic, write_json, write_tensors
from dd2core.tools.images import grid_image, png, to_uint8
from train.data.batches import batch_indices
from train.data.shards.samples import distillation_tokens
from train.dd1 import load_pairs, pair_latents
from train.engine import loop, optim
from train.engine.assemble import (
    load_generator,
    load_score_model,
    load_teacher,
    new_discriminator,
    new_generator,
    new_score_model,
)
from train.engine.distributed import average_gradients, is_main, own_part, total
from train.engine.paths import first_weights, run_folder
from train.engine.recompute import checkpoint_blocks
from train.engine.sharding import average_in_last, shard, whole
from train.measure.cost import estimated
from train.measure.stream import balanced
from train.settings.cli import main
from train.settings.schema import Config, CSDStage


class CSDJob:
    """Networks, optimisers and step of the stages csd and tune."""

    def __init__(self, cfg: Config, teacher, data, opts: CSDStage, folder: Path | None = None):
        self.cfg, self.opts, self.teacher, self.data = cfg, opts, teacher, data
        self.folder = folder
        first = first_weights(cfg, opts.start)
        self.first = first[0]
        fresh = opts.generator_from_teacher, opts.guidance_from_teacher
        generator = (new_generator(cfg, teacher, opts.bf16) if fresh[0] else
                     load_generator(cfg, teacher, first[0], opts.bf16))
        guidance = (new_score_model(cfg, teacher, opts.bf16) if fresh[1] else
                    load_score_model(cfg, teacher, first[1], opts.bf16))
        self.pairs = None
        if opts.pair_share > 0:
            if not round(opts.pair_share * opts.batch):
                raise DD2Error(f"pair_share={opts.pair_share} of batch={opts.batch} is no image: "
                               "raise either, or set it to 0.")
            warm = cfg.warm
            if cfg.dry_run:
                warm = dataclasses.replace(warm, pairs=min(warm.pairs, opts.batch))  # for one step
            self.pairs, _ = load_pairs(cfg, teacher, data, warm)
            self.pair_eps = pair_latents(cfg, teacher, warm)  # (pairs, L, C)
        average = average_of(generator, opts)
        trained = {"generator": generator, "guidance": guidance}
        if opts.adversarial > 0:
            trained["discriminator"] = new_discriminator(cfg, teacher, opts)
        checkpoint_blocks(opts, *trained.values())
        shard(cfg, *trained.values(), average.module, teacher.transformer)
        self.optimizers = {name: optim.adam(network, opts) for name, network in trained.items()}
        self.trainer = CSDTrainer(
            teacher, generator, guidance, self.optimizers["generator"],
            self.optimizers["guidance"], self.options(), average_gradients, average,
            average_in_last, total, trained.get("discriminator"),
            self.optimizers.get("discriminator"))
        self.networks = {**trained, "ema": average}

    def options(self) -> CSDStage:
        """The stage's own, with what the regression of pairs takes from the stage warm."""
        warm = self.cfg.warm
        return dataclasses.replace(self.opts, pair_sharpness=warm.sharpness,
                                   pair_latent_weight=warm.latent_weight)

    def step(self, i: int) -> dict[str, float]:
        """One iteration; i from 0. Labels follow the data's class frequencies."""
        o, device = self.opts, self.teacher.device
        hold, n = self.prepare(i), len(self.data.labels)
        eps = torch.randn(o.batch, self.teacher.num_tokens, self.teacher.code_dim, device=device)
        labels = self.data.labels[batch_indices(n, o.batch, i, self.cfg.seed)].to(device)
        real = self.real(i) if self.trainer.discriminator is not None else None
        if self.pairs is None:
            return self.trainer.step(eps, labels, hold=hold, part=own_part(), real=real)
        chosen = batch_indices(len(self.pair_eps), o.batch, i,
                               stream_seed(self.cfg.seed, "pairs of a batch"))
        chosen = chosen[: round(o.pair_share * o.batch)]
        eps[: len(chosen)] = self.pair_eps[chosen].to(device)
        labels[: len(chosen)] = self.pairs["labels"][chosen].to(device)
        targets = self.pairs["tokens"][chosen].to(device)
        return self.trainer.step(eps, labels, targets, hold, own_part(), real)

    def real(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (batch, L) and labels (batch,) of data for the discriminator in step i."""
        rows = batch_indices(len(self.data.labels), self.opts.batch, i,
                             stream_seed(self.cfg.seed, "data for the discriminator"))
        device = self.teacher.device
        return self.data.tokens[rows].long().to(device), self.data.labels[rows].to(device)

    def prepare(self, i: int) -> bool:
        """Learning rates and steps of ψ for step i; at the start of the alignment the average goes
        into G. Returns whether G is held (method §4)."""
        o, warm, at = self.opts, None, self.opts.align_at
        if o.warmup_guidance is not None:
            warm = (i + 1) * o.guidance_steps / max(1, o.warmup_guidance)
        self.trainer.adversarial = o.adversarial if i >= o.adversarial_from else 0.0
        rates = {"generator": o.lr * (i >= o.guidance_first), "guidance": o.lr_guidance,
                 "discriminator": o.lr_discriminator}
        for name, optimizer in self.optimizers.items():
            lr = rates[name]
            optim.set_lr(optimizer, lr * optim.schedule(i, o, lr, warm))
        if at is None:
            return False
        if i == at:
            self.trainer.align()
        after = o.guidance_steps_after or o.guidance_steps
        self.trainer.o.guidance_steps = o.guidance_steps if i < at + o.align_steps else after
        return at <= i < at + o.align_steps

    def snapshot(self, step: int) -> None:
        """A grid of samples, and the average of G at this step."""
        image, kept = self.grid(), whole(self.trainer.ema.module.state_dict())
        if not is_main():
            return
        write_atomic(self.folder / names.grid(step), png(Image.fromarray(image)))
        write_tensors(self.folder / names.snapshot(step), kept, torch.float16)

    def finish(self, folder: Path) -> None:
        """Write the average of G, running or of snapshots, and the guidance network."""
        kept = whole(self.trainer.ema.module.state_dict())
        guidance = whole(self.trainer.guidance.state_dict())
        if not is_main():
            return
        o = self.opts
        if o.average:
            kept = mean_of_snapshots(folder, *o.average, o.grid_every)
        if o.start_share:
            kept = mixed(kept, self.first, o.start_share)
        write_tensors(folder / names.weights("generator"), kept, torch.float16)
        write_tensors(folder / names.weights("guidance"), guidance, torch.float16)
        write_json(folder / names.RESULT, {"images": o.steps * o.batch})
        print(f"{folder.name}: {o.steps} iterations done, weights in {folder}")

    @torch.no_grad()
    def grid(self) -> np.ndarray:
        """G, D_Φ and D_ψ on fixed noise: three rows of images in one, uint8 (H, W, channels)."""
        teacher, o, n = self.teacher, self.trainer.o, 10
        labels = balanced(n, teacher.num_classes).to(teacher.device)
        eps = gaussians(n, teacher.num_tokens, teacher.code_dim, 0).to(teacher.device)
        x = self.trainer.ema.module.generate(eps, labels)  # (n, L, C)
        tokens, psi = teacher.quantise(x), self.trainer.guidance
        t = torch.full((n, teacher.num_tokens, 1), 0.6, device=teacher.device)
        x_t = add_noise(x, gaussians(*x.shape, 1).to(teacher.device), t)
        d_phi = teacher_score(teacher, tokens, labels, o).denoise(x_t, t)
        d_psi = psi(x_t, t, tokens if o.prefix == "quantised" else x, labels)
        rows = [teacher.decode(teacher.quantise(v)) for v in (x, d_phi, d_psi)]
        images = to_uint8(torch.cat(rows)).permute(0, 2, 3, 1).cpu().numpy()
        return grid_image(images, columns=n)


def mean_of_snapshots(folder: Path, first: int, last: int, every: int) -> dict[str, Tensor]:
    """Mean of the snapshots of all multiples of `every` from step `first` to `last`.

    Raises:
        DD2Error: one is missing or damaged, or there is none to be.
    """
    steps = [i for i in range(first, last + 1) if every and i % every == 0]
    missing = [i for i in steps if not (folder / names.snapshot(i)).is_file()]
    if missing or not steps:
        raise DD2Error(f"{folder} has no snapshot of step {some(missing) or first}: average= needs "
                       f"all from {first} to {last} that grid_every={every} makes, move the "
                       "folder away to train anew.")
    total: dict[str, Tensor] = {}
    for i in steps:
        for k, a in read_tensors(folder / names.snapshot(i), sealed=True).items():
            total[k] = total[k] + a.float() if k in total else a.float()
    return {k: a / len(steps) for k, a in total.items()}


def mixed(kept: dict[str, Tensor], first: Path, share: float) -> dict[str, Tensor]:
    """(1 − share)·kept + share·first: a network between where training began and where it ended.

    Args:
        kept (dict[str, Tensor]): weights of the generator.
        first (Path): file of the weights it began as.
        share (float): in [0, 1).
    """
    start = read_tensors(first, sealed=True)
    return {k: (1 - share) * a.float() + share * start[k].float() for k, a in kept.items()}


def distil(cfg: Config, stage: str) -> None:
    """Run the stage csd or tune; write `generator.safetensors` and `guidance.safetensors`."""
    device, opts = loop.setup(cfg), getattr(cfg, stage)
    if estimated(cfg, stage):
        return
    teacher = load_teacher(cfg, device)
    data = distillation_tokens(cfg, teacher, device)
    job = CSDJob(cfg, teacher, data, opts, run_folder(cfg) / stage)
    loop.run_stage(cfg, stage, job, job.snapshot)


def run(cfg: Config) -> None:
    """The stage csd."""
    distil(cfg, "csd")


if __name__ == "__main__":
    main(run)
