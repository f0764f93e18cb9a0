"""Ground-truth score initialisation: `python -m train.gts preset=fashion-llamagen` (method §4 (4)).

The network learns the teacher's closed-form denoised mean on data tokens. The result starts both
the guidance network and the generator.
"""

from pathlib import Path

import torch
from torch import Tensor

from dd2core.ema import EMA
from dd2core.gts import ScoreOptions, gts_step_loss
from dd2core.noise import Part, stream_seed
from dd2core.store.files import write_json, write_tensors
from dd2core.store.names import RESULT, weights
from train.data.batches import batch_indices, evenly
from train.data.shards.samples import distillation_tokens
from train.engine import loop, optim
from train.engine.assemble import load_teacher, new_score_model
from train.engine.distributed import is_main
from train.engine.recompute import checkpoint_blocks
from train.engine.sharding import shard, whole
from train.measure.cost import estimated
from train.settings.cli import main
from train.settings.schema import Config


class GTSJob:
    """Network, optimiser and step of the GTS stage."""

    def __init__(self, cfg: Config, teacher, data):
        self.cfg, self.opts, self.teacher, self.data = cfg, cfg.gts, teacher, data
        self.model = new_score_model(cfg, teacher, self.opts.bf16)
        self.ema = EMA(self.model, self.opts.ema)
        checkpoint_blocks(self.opts, self.model)
        shard(cfg, self.model, self.ema.module, teacher.transformer)
        self.networks = {"model": self.model, "ema": self.ema}
        self.optimizers = {"model": optim.adam(self.model, self.opts)}

    def step(self, i: int) -> dict[str, float]:
        """One step; i from 0."""
        loss, norm = optim.optimise_parts(lambda part: self.loss(i, part), self.model,
                                          self.optimizers["model"], self.opts, i)
        self.ema.update(self.model)
        return {"loss": loss, "grad": norm}

    def loss(self, i: int, part: Part) -> Tensor:
        """Of a part of step i's batch. Odd steps give the prefix as code vectors (method §3); the
        first `head_steps` leave the backbone as it is."""
        o, device = self.opts, self.teacher.device
        pick = part.take(batch_indices(len(self.data.tokens), o.batch, i, self.cfg.seed))
        tokens, labels = self.data.tokens[pick].to(device), self.data.labels[pick].to(device)
        return gts_step_loss(self.model, self.teacher, tokens, labels, o, i % 2 == 1,
                             head_only=i < o.head_steps, part=part, target=o.target)

    def finish(self, folder: Path) -> None:
        """Measure and write the average of the network."""
        best = self.ema.module
        loss = held_out_loss(best, self.teacher, self.data, self.opts, self.cfg.seed)
        kept = whole(best.state_dict())
        if not is_main():
            return
        write_tensors(folder / weights("generator"), kept)
        write_json(folder / RESULT, {"test_gts_loss": loss,
                                     "n": min(2000, len(self.data.test_tokens))})
        print(f"gts: held-out loss {loss:.4f} in units of F")


@torch.no_grad()
def held_out_loss(model, teacher, data, options: ScoreOptions, seed: int) -> float:
    """GTS loss on held-out tokens, at most 2,000 images."""
    torch.manual_seed(stream_seed(seed, "held-out"))
    few = evenly(data.test_labels, min(2000, len(data.test_labels)))
    parts = list(zip(data.test_tokens[few].split(200), data.test_labels[few].split(200),
                     strict=True))
    total = sum(
        gts_step_loss(model, teacher, x.to(teacher.device), y.to(teacher.device), options).item()
        * len(x) for x, y in parts
    )
    return total / sum(len(x) for x, _ in parts)


def run(cfg: Config) -> None:
    """Train, then write `generator.safetensors`, which starts G and ψ."""
    device = loop.setup(cfg)
    if estimated(cfg, "gts"):
        return
    teacher = load_teacher(cfg, device)
    data = distillation_tokens(cfg, teacher, device)
    loop.run_stage(cfg, "gts", GTSJob(cfg, teacher, data))


if __name__ == "__main__":
    main(run)
