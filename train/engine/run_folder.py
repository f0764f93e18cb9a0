"""The folder of a run: a stage's lock, its log, its resumable state, its resolved settings."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import filelock
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from dd2core.errors import DD2Error, some
from dd2core.store import names
from dd2core.store.atomic import sweep, write_atomic, written
from dd2core.store.files import load_strict, read_json, write_json
from dd2core.store.state import load_state, save_state
from train.engine import distributed
from train.engine.origin import GO_ON, check_before, differences, origin
from train.engine.paths import run_folder
from train.engine.sharding import spread_moments, spread_weights, whole
from train.settings.schema import Config


class Trainable(Protocol):
    """What `run_stage` asks of a stage."""

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, i: int) -> dict[str, float]:
        """One optimiser step, number i from 0; returns what is to be logged."""

    def finish(self, folder: Path) -> None:
        """Write the weights that are kept and `result.json`; for who calls it see `takes_part`."""


class Run:
    """The folder of one stage: its lock, log, resumable state, resolved config and origin."""

    def __init__(self, cfg: Config, stage: str, name: str | None = None):
        self.cfg, self.stage = cfg, stage
        self.folder = run_folder(cfg) / names.safe_name(name or stage, f"{stage}.name")
        self.state_file = self.folder / names.STATE
        self.log_file = self.folder / names.LOG
        self.origin_file = self.folder / names.ORIGIN
        self._origin: dict = {}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The folder, for this process (and those that torchrun gave it) alone.

        The system gives a lock back when its process ends, however it ends.

        Raises:
            DD2Error: another process has it, or it cannot be written.
        """
        if not distributed.is_main():
            yield
            return
        with written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / names.LOCK)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                raise DD2Error(f"Another process trains in {self.folder}: wait for it, or end it, "
                               "or give out=FOLDER.") from None
        sweep(self.folder)
        try:
            yield
        finally:
            lock.release()

    def check_origin(self) -> bool:
        """Refuse to go on with a run that was made of something else.

        Returns:
            bool: whether what it is made of is to be written: it is new, or goes on anyway.

        Raises:
            DD2Error: settings, data or weights before it are others; says which.
        """
        check_before(self.cfg, self.stage)
        self._origin = origin(self.cfg, self.stage)
        new, anyway = not self.state_file.exists(), self.cfg.resume == "anyway"
        anew = f"move it away to train {self.folder.name} anew"
        if new and not anyway and (self.folder / names.RESULT).exists():
            raise DD2Error(f"{self.folder} is finished, but its {names.STATE} is gone: leave the "
                           f"stage out, or {anew}.")
        if new:
            return True
        if not self.origin_file.exists():
            if anyway:
                return True
            raise DD2Error(f"{self.folder} has no {names.ORIGIN}, so what it is made of is not "
                           f"known: {anew}, or {GO_ON}.")
        found = differences(read_json(self.origin_file), self._origin)
        if found and not anyway:
            raise DD2Error(f"{self.folder} was trained with {some(found)}: {anew}, or {GO_ON}.")
        if found:
            print(f"{self.stage}: goes on, though it was trained with {some(found)}")
        return bool(found)

    def begin(self, step: int) -> None:
        """Make the folder that of a run which has done `step` steps and does more."""
        self.trim_log(step)
        for pattern in (names.weights("generator-*"), "grid-*.png"):
            for path in self.folder.glob(pattern):  # of steps that will be run again
                if (names.step_of(path) or 0) > step:
                    path.unlink()
        self.save_config()
        write_json(self.origin_file, self._origin)

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
            moments = spread_moments(state["optimizers"].get(name, {"state": {}}), optimizer)
            try:
                optimizer.load_state_dict(moments)
            except (ValueError, KeyError) as error:
                raise DD2Error(f"{self.state_file} [{name}] does not fit ({error}): move it away "
                               "to start again.") from None
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
        for line in self.log_file.read_text("utf-8", "replace").splitlines():
            try:
                lines.append(line) if json.loads(line)["step"] <= step else None
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # the half-written last line of a killed run
        write_atomic(self.log_file, "".join(line + "\n" for line in lines).encode())

    def log(self, metrics: dict[str, float]) -> None:
        """Append one line of JSON."""
        with written(self.log_file), open(self.log_file, "a", encoding="utf-8") as f:
            f.write(json.dumps({k: _short(v) for k, v in metrics.items()}) + "\n")

    def save_config(self) -> None:
        """Write the resolved settings beside the weights."""
        text = OmegaConf.to_yaml(OmegaConf.structured(self.cfg))
        write_atomic(self.folder / names.SETTINGS, text.encode())


def _short(v):
    return float(f"{v:.6g}") if isinstance(v, float) else v
