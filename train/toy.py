"""Distributions of a few tokens with a known joint: `python -m train.toy`, some
minutes of one core.

Total variation between what is sampled and the truth, for all tokens at once, DD1 and DD2 in both
forms, with three seeds; written as JSON, which docs/results.md shows (`train.report`).
"""

import dataclasses
import shlex
import sys
from pathlib import Path

import torch

from dd2core.errors import DD2Error
from dd2core.store.files import write_json
from train.engine.record.provenance import provenance
from train.results.measured import OWN
from train.settings.cli import main
from train.toys.field import markov_field, pair
from train.toys.study import METHODS, Budget, study

TOYS = {"two tokens, (0, 0) or (1, 1)": pair, "Potts field, 2 × 2, three states": markov_field}


@dataclasses.dataclass
class Toy:
    """Settings of the command."""

    seeds: int = 3  # repetitions
    gts: int = Budget.gts  # steps of ψ
    distil: int = Budget.distil  # steps of DD1, and of CSD
    samples: int = Budget.samples  # sequences whose histogram is compared
    out: str = str(OWN / "toy.json")  # file to write


def run(cfg: Toy) -> None:
    """Study both toys and write the file."""
    if min(cfg.seeds, cfg.gts, cfg.distil, cfg.samples) < 1:
        raise DD2Error("seeds, gts, distil and samples must be at least 1.")
    torch.set_num_threads(1)  # tensors of a few kilobytes
    budget = Budget(gts=cfg.gts, distil=cfg.distil, samples=cfg.samples)
    found: dict[str, list[dict[str, float]]] = {}
    for name, joint in TOYS.items():
        for seed in range(cfg.seeds):
            numbers = study(joint(), seed, budget)
            found.setdefault(name, []).append(numbers)
            shown = ", ".join(f"{key} {numbers[key]:.3f}" for key in METHODS)
            print(f"{name}, seed {seed}: {shown}; {numbers['seconds']:.0f} s", flush=True)
    write_json(Path(cfg.out), {
        "command": shlex.join(["python", "-m", "train.toy", *sys.argv[1:]]), "seeds": cfg.seeds,
        "budget": dataclasses.asdict(budget), "toys": found,
        "provenance": dataclasses.asdict(provenance(torch.device("cpu"), 0))})


if __name__ == "__main__":
    main(run, kind=Toy)
