"""Train the AR teacher on tokens: `python -m train.teacher preset=fashion-llamagen`.

Cross-entropy with the label dropped now and then, so that guidance works. The weight average is
what is kept.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.ema import EMA
from dd2core.noise import Part
from dd2core.store.files import write_json, write_tensors
from dd2core.store.names import RESULT, weights
from train.data.batches import batch_indices
from train.data.tokens import TokenData, class_names, load_tokens
from train.engine import loop, optim
from train.engine.assemble import load_tokenizer, new_transformer
from train.engine.base import check_own
from train.engine.distributed import is_main
from train.engine.recompute import checkpoint_blocks
from train.engine.sharding import shard, whole
from train.settings.cli import main
from train.settings.schema import Config


class TeacherJob:
    """Networks, optimiser and step of the teacher stage."""

    def __init__(self, cfg: Config, transformer, data: TokenData, device: torch.device):
        self.cfg, self.opts, self.data, self.device = cfg, cfg.teacher, data, device
        self.model = transformer.to(device)
        self.ema = EMA(self.model, self.opts.ema)
        checkpoint_blocks(self.opts, self.model)
        shard(cfg, self.model, self.ema.module)
        self.networks = {"model": self.model, "ema": self.ema}
        self.optimizers = {"model": optim.adam(self.model, self.opts)}

    def step(self, i: int) -> dict[str, float]:
        """One step; i from 0."""
        loss, norm = optim.optimise_parts(lambda part: self.loss(i, part), self.model,
                                          self.optimizers["model"], self.opts, i)
        self.ema.update(self.model)
        return {"loss": loss, "grad": norm}

    def loss(self, i: int, part: Part) -> Tensor:
        """Cross-entropy of a part of step i's batch."""
        o = self.opts
        pick = part.take(batch_indices(len(self.data.tokens), o.batch, i, self.cfg.seed))
        tokens = self.data.tokens[pick].to(self.device)  # (B, L)
        labels = self.data.labels[pick].to(self.device)  # (B,)
        drop = part.take(torch.rand(o.batch, device=self.device)) < o.class_dropout
        labels = labels.masked_fill(drop, self.model.cfg.num_classes)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.bf16):
            logits = self.model(tokens, labels)  # (B, L, V)
        return F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())

    def finish(self, folder: Path) -> None:
        """Measure and write the average of the transformer."""
        best, data = self.ema.module.eval(), self.data
        nats = cross_entropy(best, data.test_tokens, data.test_labels, self.device)
        kept = whole(best.state_dict())
        if not is_main():
            return
        write_tensors(folder / weights("teacher"), kept, torch.float16)
        write_json(folder / RESULT, {"test_nats_per_token": nats, "n": len(data.test_tokens)})
        print(f"teacher: {nats:.3f} nats per token, N = {len(data.test_tokens)} test images")


@torch.no_grad()
def cross_entropy(model, tokens, labels, device) -> float:
    """Mean nats per token of the conditional teacher on (N, L) tokens."""
    total = 0.0
    for x, y in zip(tokens.split(256), labels.split(256), strict=True):
        logits = model(x.to(device), y.to(device)).float()
        total += F.cross_entropy(logits.flatten(0, 1), x.to(device).flatten()).item() * len(x)
    return total / len(tokens)


def run(cfg: Config) -> None:
    """Train, then write `teacher.safetensors` and its cross-entropy on the held-out tokens."""
    check_own(cfg, "teacher")
    device = loop.setup(cfg)
    tokenizer = load_tokenizer(cfg, device)
    data, names = load_tokens(cfg, tokenizer, device), class_names(cfg)
    job = TeacherJob(cfg, new_transformer(cfg, tokenizer.cpu(), len(names)), data, device)
    loop.run_stage(cfg, "teacher", job)


if __name__ == "__main__":
    main(run)
