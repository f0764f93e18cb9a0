"""The folder of a run: a stage's log, its resumable state, its resolved settings."""

import json
from pathlib import Path
from typing import Protocol

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.store.files import load_strict, write_atomic
from dd2core.store.state import load_state, save_state
from train.engine import distributed
from train.engine.sharding import spread_moments, spread_weights, whole
from train.settings.cli import ROOT
from train.settings.schema import Config


class Trainable(Protocol):
    """What `run_stage` asks of a stage."""

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, i: int) -> dict[str, float]:
        """One optimiser step, number i from 0; returns what is to be logged."""


def run_folder(cfg: Config) -> Path:
    """Where this experiment's stages live."""
    return Path(cfg.out) if cfg.out else ROOT / "runs" / cfg.name


class Run:
    """The folder of one stage: its log, its resumable state, its resolved config."""

    def __init__(self, cfg: Config, stage: str, name: str | None = None):
        self.cfg, self.stage = cfg, stage
        self.folder = run_folder(cfg) / (name or stage)
        self.state_file = self.folder / "state.pt"
        self.log_file = self.folder / "log.jsonl"

    def resume(self, job: Trainable) -> tuple[int, float]:
        """Load the last state into `job`; returns (next step, seconds trained so far)."""
        if not self.state_file.exists():
            return 0, 0.0
        state = load_state(self.state_file, mmap=self.cfg.shard)
        expected = {"step", "seconds", "networks", "optimizers"}
        if not isinstance(state, dict) or set(state) != expected:
            raise DD2Error(f"{self.state_file} is no training state: move it away to start again.")
        for name, module in job.networks.items():
            found = spread_weights(state["networks"].get(name, {}), module)
            load_strict(module, found, f"{self.state_file} [{name}]")
        for name, optimizer in job.optimizers.items():
            optimizer.load_state_dict(spread_moments(state["optimizers"][name], optimizer))
        return state["step"], state["seconds"]

    def save(self, job: Trainable, step: int, seconds: float) -> None:
        """Write the resumable state, atomically; see `takes_part` for who must call it."""
        networks = whole({k: m.state_dict() for k, m in job.networks.items()})
        optimizers = whole({k: o.state_dict() for k, o in job.optimizers.items()})
        if not distributed.is_main():
            return
        self.check(networks, step - 1)
        save_state(self.state_file, {
            "step": step, "seconds": seconds, "networks": networks, "optimizers": optimizers})

    def check(self, networks: dict[str, dict[str, Tensor]], i: int) -> None:
        """Refuse to save weights that step i has ruined."""
        for name, weights in networks.items():
            if not all(a.isfinite().all() for a in weights.values()):
                raise DD2Error(
                    f"The weights of {name} are not finite after step {i} of preset "
                    f"{self.cfg.name}: lower the learning rate; the last saved state is untouched."
                )

    def trim_log(self, step: int) -> None:
        """Drop lines of steps that will be run again."""
        if not self.log_file.exists():
            return
        lines = []
        for line in self.log_file.read_text().splitlines():
            try:
                lines.append(line) if json.loads(line)["step"] <= step else None
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # the half-written last line of a killed run
        write_atomic(self.log_file, "".join(line + "\n" for line in lines).encode())

    def log(self, metrics: dict[str, float]) -> None:
        """Append one line of JSON."""
        with open(self.log_file, "a") as f:
            f.write(json.dumps({k: _short(v) for k, v in metrics.items()}) + "\n")

    def save_config(self) -> None:
        """Write the resolved settings beside the weights."""
        text = OmegaConf.to_yaml(OmegaConf.structured(self.cfg))
        write_atomic(self.folder / "config.yaml", text.encode())


def _short(v):
    return float(f"{v:.6g}") if isinstance(v, float) else v
