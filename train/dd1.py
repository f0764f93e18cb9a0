"""The DD1 baseline: `python -m train.dd1 preset=fashion-llamagen` (method §6).

Pairs (ε, tokens) are generated once along AR sampling and kept in the run folder with the seconds
they took; then the same generator class regresses them. `dd1.name=…` gives a sweep one folder per
setting; the pairs are shared. `dd1.second_share=0.5` trains the same network for a second step too,
for `train.evaluate sampler=dd1_two_steps`.
"""

import time
from pathlib import Path

import torch

from dd2core.baselines import dd1_loss, dd1_pairs, first_part, second_input, second_weight
from dd2core.ema import EMA
from dd2core.errors import DD2Error
from dd2core.noise import Part, gaussians, stream_seed
from dd2core.sampling import Sampling
from dd2core.store.files import (
    fingerprint,
    read_json,
    read_tensors,
    seal,
    write_json,
    write_tensors,
)
from dd2core.store.names import PAIRS, RESULT, weights
from train.data.batches import batch_indices, evenly
from train.data.shards.samples import distillation_tokens
from train.engine import loop, optim
from train.engine.assemble import load_generator, load_teacher
from train.engine.distributed import gather, is_main, rank, world
from train.engine.paths import first_weights, run_folder
from train.engine.recompute import checkpoint_blocks
from train.engine.sharding import shard, whole
from train.settings.cli import main
from train.settings.schema import Config, DD1Stage


def load_pairs(
    cfg: Config, teacher, data, o: DD1Stage
) -> tuple[dict[str, torch.Tensor], float]:
    """Labels and tokens of the pairs, and the seconds that making them took; see `pair_latents`."""
    whose = fingerprint(teacher)[:8]  # another teacher has other pairs
    which = seal({"labels": data.labels})[:8]  # and so have other data
    path = run_folder(cfg) / PAIRS / weights(
        f"pairs-{o.pairs}-{o.pair_batch}-{o.euler_steps}-{_named(o.sampling)}-{cfg.seed}-{whose}"
        f"-{which}{'' if o.bf16 else '-float32'}")
    if path.exists():
        return read_tensors(path, sealed=True), _seconds(path.with_suffix(".json"))
    labels = data.labels[evenly(data.labels, o.pairs)]
    since, tokens = time.perf_counter(), {}
    for i, part in enumerate(labels.split(o.pair_batch)):
        if i % world() != rank():
            continue  # another process's part
        eps = gaussians(len(part), teacher.num_tokens, teacher.code_dim, _pair_seed(cfg, i))
        with torch.autocast(teacher.device.type, torch.bfloat16, enabled=o.bf16):
            tokens[i] = dd1_pairs(teacher, part.to(teacher.device), eps.to(teacher.device),
                                  o.sampling, o.euler_steps).cpu()
    tokens = gather(tokens)
    seconds = time.perf_counter() - since
    pairs = {"labels": labels, "tokens": torch.cat([tokens[i] for i in sorted(tokens)])}
    if cfg.dry_run or not is_main():
        return pairs, seconds
    write_json(path.with_suffix(".json"), {"seconds": seconds, "pairs": o.pairs})
    write_tensors(path, pairs)
    print(f"dd1: {o.pairs} pairs in {seconds:.0f} s")
    return pairs, seconds


def _seconds(path: Path) -> float:
    """The seconds in the file beside the pairs; they are written before these."""
    seconds = read_json(path).get("seconds")
    if not isinstance(seconds, int | float):
        raise DD2Error(f"{path} is damaged: move the pairs away to make them anew.")
    return seconds


def _named(s: Sampling) -> str:
    """A sampling as part of a file name."""
    return "-".join(f"{v}" for v in s.keywords().values())


def _pair_seed(cfg: Config, i: int) -> int:
    """The seed of the latents of batch i."""
    return stream_seed(cfg.seed, "pairs", i)


def pair_latents(cfg: Config, teacher, o: DD1Stage) -> torch.Tensor:
    """The latents ε of the pairs, (pairs, L, C): remade from their seeds, not stored."""
    return torch.cat([
        gaussians(min(o.pair_batch, o.pairs - a), teacher.num_tokens, teacher.code_dim,
                  _pair_seed(cfg, i)) for i, a in enumerate(range(0, o.pairs, o.pair_batch))
    ])


class DD1Job:
    """Network, optimiser and step of the stages dd1 and warm."""

    def __init__(self, cfg: Config, teacher, pairs: dict[str, torch.Tensor], opts: DD1Stage,
                 seconds: float = 0.0):
        self.cfg, self.opts, self.teacher, self.pairs = cfg, opts, teacher, pairs
        self.seconds = seconds
        first, _ = first_weights(cfg, "gts")
        self.model = load_generator(cfg, teacher, first, self.opts.bf16)
        self.ema = EMA(self.model, self.opts.ema)
        checkpoint_blocks(opts, self.model)
        shard(cfg, self.model, self.ema.module, teacher.transformer)
        self.networks = {"model": self.model, "ema": self.ema}
        self.optimizers = {"model": optim.adam(self.model, self.opts)}
        self.eps = pair_latents(cfg, teacher, opts)  # (pairs, L, C)
        self.kept = self._kept()

    def _kept(self) -> torch.Tensor | None:
        """Which tokens the network is given of each image of a batch, bool (batch, L): the first
        part of the first ones, no other; None where it learns one step alone."""
        o = self.opts
        if not o.second_share:
            return None
        second = round(o.second_share * o.batch)
        if not second:
            raise DD2Error(f"second_share={o.second_share} of batch={o.batch} is no image: raise "
                           "either, or set it to 0.")
        part = first_part(self.teacher, o.second_start)
        return (torch.arange(o.batch, device=part.device) < second)[:, None] & part

    def step(self, i: int) -> dict[str, float]:
        """One step; i from 0."""
        right: list[torch.Tensor] = []  # share of right tokens, of each pass
        loss, norm = optim.optimise_parts(lambda part: self.loss(i, part, right), self.model,
                                          self.optimizers["model"], self.opts, i)
        self.ema.update(self.model)
        return {"loss": loss, "right_tokens": torch.stack(right).mean().item(), "grad": norm}

    def loss(self, i: int, part: Part, right: list[torch.Tensor]) -> torch.Tensor:
        """DD1's regression of a part of step i's batch; adds its share of right tokens."""
        o, device = self.opts, self.teacher.device
        pick = part.take(batch_indices(len(self.eps), o.batch, i, self.cfg.seed))
        eps, labels, tokens = (a[pick].to(device) for a in (
            self.eps, self.pairs["labels"], self.pairs["tokens"]))
        weight = ()
        if self.kept is not None:
            kept = part.take(self.kept)  # (n, L)
            eps, weight = second_input(self.teacher, eps, tokens, kept), (second_weight(kept),)
        x = self.model.generate(eps, labels)
        met = (self.teacher.quantise(x.detach()) == tokens).float()  # (n, L)
        right.append((met * weight[0] if weight else met).mean())
        return dd1_loss(x, tokens, self.teacher.codebook, o.sharpness, o.latent_weight, *weight)

    def finish(self, folder: Path) -> None:
        """Write the average of the generator, and what its pairs took."""
        kept = whole(self.ema.module.state_dict())
        if not is_main():
            return
        write_tensors(folder / weights("generator"), kept, torch.float16)
        write_json(folder / RESULT, {"pair_seconds": self.seconds, "pairs": self.opts.pairs})
        print(f"{folder.name}: {self.opts.steps} steps done, weights in {folder}")


def regress(cfg: Config, stage: str) -> None:
    """The stage dd1 or warm: generate pairs, train, then write `generator.safetensors`."""
    device, o = loop.setup(cfg), getattr(cfg, stage)
    teacher = load_teacher(cfg, device)
    if cfg.dry_run:
        o.pairs = min(o.pairs, o.batch)  # enough for the one step
    pairs, seconds = load_pairs(cfg, teacher, distillation_tokens(cfg, teacher, device), o)
    loop.run_stage(cfg, stage, DD1Job(cfg, teacher, pairs, o, seconds), name=o.name)


def run(cfg: Config) -> None:
    """The stage dd1."""
    regress(cfg, "dd1")


if __name__ == "__main__":
    main(run)
