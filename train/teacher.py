"""Train the AR teacher on tokens: `python -m train.teacher preset=fashion-llamagen`.

Cross-entropy with the label dropped now and then, so that guidance works. The weight average is
what is kept, with `teacher.keep=best` that of the lowest cross-entropy on held-out tokens.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.ema import EMA
from dd2core.noise import Part, stream_seed
from dd2core.store.files import write_json, write_tensors
from dd2core.store.names import RESULT, weights
from train.data.batches import batch_indices
from train.data.tokens import TokenData, class_names, load_tokens
from train.engine import distributed, loop, optim
from train.engine.assemble import load_tokenizer, new_transformer
from train.engine.base import check_own
from train.engine.best import Best
from train.engine.distributed import is_main
from train.engine.recompute import checkpoint_blocks
from train.engine.sharding import shard, whole
from train.settings.cli import main
from train.settings.schema import ARStage, Config, TeacherStage


class TeacherJob:
    """Networks, optimiser and step of the teacher stage."""

    def __init__(self, cfg: Config, transformer, data: TokenData, device: torch.device,
                 opts: ARStage | None = None):
        self.cfg, self.opts, self.data, self.device = cfg, opts or cfg.teacher, data, device
        self.model = transformer.to(device)
        self.ema = EMA(self.model, self.opts.ema)
        best = isinstance(self.opts, TeacherStage) and self.opts.keep == "best"
        self.best = Best(self.ema.module).to(device) if best else None
        self.model.backbone.set_dropout(self.opts.dropout)  # of it alone: no copy of it drops
        checkpoint_blocks(self.opts, self.model)
        shard(cfg, self.model, self.ema.module, *([self.best.module] if self.best else []))
        self.networks = {"model": self.model, "ema": self.ema}
        if self.best:
            self.networks["best"] = self.best
        self.optimizers = {"model": optim.adam(self.model, self.opts)}

    def step(self, i: int) -> dict[str, float]:
        """One step; i from 0."""
        loss, norm = optim.optimise_parts(lambda part: self.loss(i, part), self.model,
                                          self.optimizers["model"], self.opts, i)
        self.ema.update(self.model)
        return {"loss": loss, "grad": norm, **self.check(i)}

    @property
    def ended(self) -> bool:
        """Whether training ends before its steps, as nothing has become better for long."""
        return self.best is not None and 0 < self.opts.patience <= int(self.best.waited)

    def check(self, i: int) -> dict[str, float]:
        """Every `check_every` steps: keep the average of step i if it is the best on every other
        held-out image."""
        if self.best is None or ((i + 1) % self.opts.check_every and i + 1 < self.opts.steps):
            return {}
        d, average = self.data, self.ema.module.eval()
        nats = cross_entropy(average, d.test_tokens[::2], d.test_labels[::2], self.device)
        nats = distributed.average({"nats": nats}, self.device)["nats"]  # all decide alike
        self.best.offer(nats, i + 1, average)
        return {"test_nats": nats}

    def loss(self, i: int, part: Part) -> Tensor:
        """Cross-entropy of a part of step i's batch."""
        o = self.opts
        pick = part.take(batch_indices(len(self.data.tokens), o.batch, i, self.cfg.seed))
        tokens = self.data.tokens[pick].to(self.device)  # (B, L)
        labels = self.data.labels[pick].to(self.device)  # (B,)
        drop = part.take(torch.rand(o.batch, device=self.device)) < o.class_dropout
        labels = labels.masked_fill(drop, self.model.cfg.num_classes)
        part.own_draws(self.cfg.seed, f"dropout of {type(o).__name__}", i)
        if o.dropout:  # each part its own, as what is drawn within the blocks is of their size
            torch.manual_seed(stream_seed(self.cfg.seed, "dropout", i, part.index))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.bf16):
            logits = self.model(tokens, labels)  # (B, L, V)
        return F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())

    def finish(self, folder: Path) -> None:
        """Measure and write the average of the transformer."""
        best, data = (self.best or self.ema).module.eval(), self.data
        nats = cross_entropy(best, data.test_tokens, data.test_labels, self.device)
        found = {"test_nats_per_token": nats, "n": len(data.test_tokens)}
        said = ""
        if self.best is not None:
            found |= {"kept_step": int(self.best.step), "unchosen_nats_per_token": cross_entropy(
                best, data.test_tokens[1::2], data.test_labels[1::2], self.device)}
            said = (f", as after step {found['kept_step']}; "
                    f"{found['unchosen_nats_per_token']:.3f} on those that did not choose it")
        kept = whole(best.state_dict())
        if not is_main():
            return
        write_tensors(folder / weights("teacher"), kept, torch.float16)
        write_json(folder / RESULT, found)
        print(f"teacher: {nats:.3f} nats per token, N = {found['n']} test images{said}")


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
