"""A teacher with a token table learns to take vectors: `python -m train.adapt preset=llamagen-l`.

The table becomes an MLP on code vectors (method §3; paper App. B.1). It is fitted to the table
alone (section `adapt_fit`); then the whole transformer is trained on with its ordinary loss, until
the held-out cross-entropy is back where the table had it, or for `adapt.steps`. The result is the
teacher from then on: a model folder, runs/NAME/adapt, which the stages after it read and which
`base=` takes. `adapt.steps=0`, the default, is no adaptation.
"""

from pathlib import Path

import torch
from torch import nn

from dd2core.families import find_family
from dd2core.families.llamagen.vector_input import fit_error, with_mlp_input
from dd2core.noise import WHOLE
from dd2core.store.files import load_strict, write_json, write_tensors
from dd2core.store.folder import Model, save_folder
from dd2core.store.names import ADAPT, ADAPT_FIT, RESULT, weights
from dd2core.teacher import Teacher
from train.data.batches import evenly
from train.data.tokens import TokenData, class_names, load_tokens
from train.engine import distributed, loop, optim
from train.engine.assemble import load_teacher
from train.engine.distributed import is_main
from train.engine.sharding import whole
from train.measure.cost import estimated
from train.settings.cli import main
from train.settings.schema import Config
from train.teacher import TeacherJob, cross_entropy

HELD_OUT = 2000  # held-out images that say whether the teacher is as good as before


class FitJob:
    """The MLP alone learns the table; every step sees all codes, so each process does the same."""

    def __init__(self, cfg: Config, transformer, table: torch.Tensor):
        self.opts, self.model = cfg.adapt_fit, transformer.backbone.code_input
        self.codebook, self.table = transformer.backbone.codebook, table
        self.first = self.error().item()
        self.networks = {"model": self.model}
        self.optimizers = {"model": optim.adam(self.model, self.opts)}

    def error(self) -> torch.Tensor:
        """Mean squared distance of an input from the table's."""
        return fit_error(self.model, self.codebook, self.table)

    def step(self, i: int) -> dict[str, float]:
        """One step; i from 0."""
        loss = self.error()
        norm = optim.optimise(loss, self.model, self.optimizers["model"], self.opts, i)
        return {"loss": loss.item(), "grad": norm}

    def finish(self, folder: Path) -> None:
        """Write the MLP and what is left of the error."""
        if is_main():
            write_tensors(folder / weights("input"), self.model.state_dict())
            write_json(folder / RESULT, {"first_error": self.first, "error": self.error().item(),
                                         "codes": len(self.table)})


class Progress(nn.Module):
    """What the adaptation has reached: part of its state, so that a resumed run knows."""

    fitted: torch.Tensor  # held-out nats with the MLP as fitted
    nats: torch.Tensor  # the last that were measured
    steps: torch.Tensor  # taken
    ended: torch.Tensor  # 1 when the table's are reached

    def __init__(self):
        super().__init__()
        for name in ("fitted", "nats", "steps", "ended"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))


class AdaptJob(TeacherJob):
    """The teacher's training, on the transformer with the fitted MLP.

    Args:
        cfg, transformer, data, device: as of `TeacherJob`.
        target (float): held-out nats per token of the table's transformer.
    """

    def __init__(self, cfg: Config, transformer, data: TokenData, device: torch.device,
                 target: float):
        super().__init__(cfg, transformer, data, device, cfg.adapt)
        self.target, self.progress = target, Progress()
        self.networks["progress"] = self.progress

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do; the same in all processes."""
        return bool(self.progress.ended)

    def step(self, i: int) -> dict[str, float]:
        """One step; i from 0. Every `check_every` the held-out cross-entropy is measured."""
        o, p = self.opts, self.progress
        if i == 0:
            p.fitted.fill_(held_out_nats(self.ema.module, self.data, self.device))
            p.nats.copy_(p.fitted)
        metrics = super().step(i)
        p.steps.fill_(i + 1)
        if (i + 1) % o.check_every == 0:
            p.nats.fill_(held_out_nats(self.ema.module, self.data, self.device))
            back = p.nats.item() <= self.target + o.tolerance
            p.ended.fill_(distributed.anyone(back, self.device))
        return {**metrics, "test_nats": p.nats.item()}

    def finish(self, folder: Path) -> None:
        """Measure the average of the transformer, and write it as a model folder."""
        best, p = self.ema.module.eval(), self.progress
        nats = held_out_nats(best, self.data, self.device, self.cfg.shard)
        kept = whole(best.state_dict())
        if not is_main():
            return
        found = {"test_nats_per_token": nats, "table_nats_per_token": self.target,
                 "fitted_nats_per_token": p.fitted.item(), "steps": int(p.steps),
                 "back": self.ended or nats <= self.target + self.opts.tolerance,
                 "n": min(HELD_OUT, len(self.data.test_tokens))}
        write_json(folder / RESULT, found)
        self.save(folder, kept)
        print("adapt: {test_nats_per_token:.3f} nats per token after {steps} steps; with the table "
              "{table_nats_per_token:.3f}, with the fitted MLP "
              "{fitted_nats_per_token:.3f}".format(**found))

    def save(self, folder: Path, state: dict[str, torch.Tensor]) -> None:
        """Write the model folder of the teacher that has the transformer's weights `state`."""
        cfg, family = self.cfg, find_family(self.cfg.family)
        source = load_teacher(cfg, torch.device("cpu"), adapted=False)
        transformer = with_mlp_input(source.transformer, *input_sizes(cfg))
        load_strict(transformer, state, str(folder))
        teacher = family.teacher(source.tokenizer, transformer)
        save_folder(folder, Model(cfg.name, cfg.family, class_names(cfg), cfg.sampling, teacher,
                                  None, None, cfg.image_size))


def input_sizes(cfg: Config) -> tuple[int, int]:
    """Width and number of the MLP's hidden layers."""
    return cfg.teacher.input_hidden, cfg.teacher.input_layers


def held_out_nats(
    model, data: TokenData, device: torch.device, together: bool = True
) -> float:
    """Cross-entropy on held-out images: each process its part of them, and the same number in all;
    or, not `together`, by the calling process alone."""
    n = min(HELD_OUT, len(data.test_tokens))
    part = distributed.own_part() if together else WHOLE
    n += -n % part.count  # a part as large for each: the network may be sharded
    pick = part.take(evenly(data.test_labels, n))
    nats = cross_entropy(model, data.test_tokens[pick], data.test_labels[pick], device)
    return distributed.average({"nats": nats}, device)["nats"] if together else nats


def adapt(cfg: Config, teacher: Teacher, data: TokenData, device: torch.device) -> None:
    """Fit, then train, from wherever either has stopped."""
    table = teacher.transformer
    target = held_out_nats(table, data, device)
    transformer = with_mlp_input(table, *input_sizes(cfg)).requires_grad_(True)
    loop.run_stage(cfg, ADAPT_FIT, FitJob(cfg, transformer, table.backbone.table()))
    loop.run_stage(cfg, ADAPT, AdaptJob(cfg, transformer, data, device, target))


def run(cfg: Config) -> None:
    """The stage adapt, if it has steps."""
    if cfg.adapt.steps == 0:
        return
    device = loop.setup(cfg)
    if estimated(cfg, ADAPT):
        return
    teacher = load_teacher(cfg, device, adapted=False)
    adapt(cfg, teacher, load_tokens(cfg, teacher.tokenizer, device), device)


if __name__ == "__main__":
    main(run)
