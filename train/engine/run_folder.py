"""The folder of a run: a stage's lock, its log, its resumable state, its resolved settings."""

import contextlib
import dataclasses
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
from train.engine.processes import parts
from train.engine.processes.guard import check_weights, together
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
        self._parts: parts.Writer | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The folder, for this process (and those that torchrun gave it) alone.

        The system gives a lock back when its process ends, however it ends.

        Raises:
            DD2Error: another process has it, or it cannot be written.
        """
        lock = None
        with together():
            if distributed.is_main():
                lock = self._lock()
                sweep(self.folder)
        try:
            yield
        finally:
            if self._parts is not None:
                self._parts.join()
            if lock is not None:
                lock.release()

    def _lock(self) -> filelock.BaseFileLock:
        with written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / names.LOCK)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                raise DD2Error(f"Another process trains in {self.folder}: wait for it, or end it, "
                               "or give out=FOLDER.") from None
        return lock

    def has_state(self) -> bool:
        """Whether there is a state to go on from, whole or in parts."""
        return self.state_file.exists() or parts.newest(self.folder) is not None

    def check_origin(self) -> bool:
        """Refuse to go on with a run that was made of something else.

        Returns:
            bool: whether what it is made of is to be written: it is new, or goes on anyway.

        Raises:
            DD2Error: settings, data or weights before it are others; says which.
        """
        check_before(self.cfg, self.stage)
        self._origin = origin(self.cfg, self.stage)
        new, anyway = not self.has_state(), self.cfg.resume == "anyway"
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
        """Load the last state into `job`; returns (next step, seconds trained so far).

        A collective, after which all processes are known to be at the same step with the same
        weights, those of the frozen teacher too.

        Raises:
            DD2Error: the state does not fit, or the processes differ.
        """
        with together():
            step, seconds = self._resume(job)
        modules = {**job.networks, "teacher": getattr(job, "teacher", None)}
        check_weights(step, {k: m for k, m in modules.items() if isinstance(m, nn.Module)})
        return step, seconds

    def _resume(self, job: Trainable) -> tuple[int, float]:
        if not self.has_state():
            return 0, 0.0
        state = self._found(job)
        expected = {"step", "seconds", "networks", "optimizers"}
        if not isinstance(state, dict) or set(state) != expected:
            raise DD2Error(f"{self.state_file} is no training state: move it away to start again.")
        for name, module in job.networks.items():
            found = spread_weights(state["networks"].get(name, {}), module)
            load_strict(module, found, f"{self.state_file} [{name}]")
        for name, optimizer in job.optimizers.items():
            moments = spread_moments(state["optimizers"].get(name, {"state": {}}), optimizer)
            own = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
            try:
                optimizer.load_state_dict(moments)
            except (ValueError, KeyError) as error:
                raise DD2Error(f"{self.state_file} [{name}] does not fit ({error}): move it away "
                               "to start again.") from None
            for group, settings in zip(optimizer.param_groups, own, strict=True):
                group.update(settings)  # not those of the state: resume=anyway may change them
        return state["step"], state["seconds"]

    def _found(self, job: Trainable) -> dict:
        """The last state: whole, or in parts, of which this process takes its own."""
        path = parts.newest(self.folder)
        whole_one = load_state(self.state_file, mmap=self.cfg.shard) if (
            self.state_file.exists()) else None
        if path is None or (whole_one and whole_one.get("step", 0) >= (names.step_of(path) or 0)):
            return whole_one
        like = parts.flat({k: m.state_dict() for k, m in job.networks.items()}, {})[0]
        groups = {k: [p for group in o.param_groups for p in group["params"]]
                  for k, o in job.optimizers.items()}
        for name, params in groups.items():
            like |= {f"optimizers/{name}/{i}/{k}": p for i, p in enumerate(params)
                     for k in ("exp_avg", "exp_avg_sq")}
        about, tensors = parts.read(path, like)
        networks, optimizers = parts.nested(tensors, about["groups"])
        return {"step": about["step"], "seconds": about["seconds"], "networks": networks,
                "optimizers": optimizers}

    def save_parts(self, job: Trainable, step: int, seconds: float) -> None:
        """`save` of a sharded run on its way: every process writes what it holds, while training
        goes on. A collective of all processes."""
        if self._parts is None:
            self._parts = parts.Writer(self.folder, self.cfg.timeout)
        networks = {k: m.state_dict() for k, m in job.networks.items()}
        tensors, groups = parts.flat(networks,
                                     {k: o.state_dict() for k, o in job.optimizers.items()})
        with together():
            self.check({k: {n: getattr(a, "_local_tensor", a) for n, a in w.items()}
                        for k, w in networks.items()}, step - 1)
        self._parts.save(tensors, {"step": step, "seconds": seconds, "groups": groups}, step)

    def end_parts(self) -> None:
        """Wait for what is still being written; a collective of all processes."""
        if self._parts is not None:
            self._parts.wait()

    def save(self, job: Trainable, step: int, seconds: float) -> None:
        """Write the resumable state, whole and atomically; see `takes_part` for who must call."""
        self.end_parts()
        networks = whole({k: m.state_dict() for k, m in job.networks.items()})
        optimizers = whole({k: o.state_dict() for k, o in job.optimizers.items()})
        if not distributed.is_main():
            return
        self.check(networks, step - 1)
        save_state(self.state_file, {
            "step": step, "seconds": seconds, "networks": networks, "optimizers": optimizers})
        parts.remove(self.folder)  # older than this

    def prune_snapshots(self, opts) -> None:
        """Remove snapshots that are older than the newest `keep_snapshots`; those stay that are to
        be averaged in the end."""
        first, last = getattr(opts, "average", None) or (0, -1)
        every = opts.grid_every
        found = sorted((names.step_of(path) or 0, path)
                       for path in self.folder.glob(names.weights("generator-*")))
        kept = self.cfg.keep_snapshots
        for step, path in found[:-kept] if kept else ():
            if not (first <= step <= last and every and step % every == 0):
                path.unlink()

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
        text = OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(self.cfg)))
        write_atomic(self.folder / names.SETTINGS, text.encode())


def _short(v):
    return float(f"{v:.6g}") if isinstance(v, float) else v
