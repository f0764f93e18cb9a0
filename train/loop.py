"""The loop that every training stage runs in: resume, log, save, sample grids.

A stage is an object with `networks` (name → module), `optimizers` (name → optimiser) and
`step(i) → metrics`. Everything random in step i is a function of (seed, i), so a resumed run is the
uninterrupted run.
"""

import json
import time
from pathlib import Path
from typing import Protocol

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from tqdm import tqdm

from dd2core.checkpoint import load_state, load_strict, save_state, write_atomic
from dd2core.device import pick_device
from dd2core.errors import DD2Error
from dd2core.trainer import clip_gradients
from train import distributed
from train.config import Config, Stage, run_folder
from train.sharding import spread_moments, spread_weights, takes_part, whole


class Trainable(Protocol):
    """What `run_stage` asks of a stage."""

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, i: int) -> dict[str, float]:
        """One optimiser step, number i from 0; returns what is to be logged."""


def schedule(i: int, stage: Stage) -> float:
    """Learning rate of step i as a fraction of the peak: linear warm-up, then cosine."""
    warm = min(1.0, (i + 1) / max(1, stage.warmup))
    done = min(1.0, i / max(1, stage.steps))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())
    return warm * (stage.lr_final + (1 - stage.lr_final) * cosine)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def adam(module: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; weight decay on matrices only."""
    params = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": stage.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.lr, betas=(stage.beta1, stage.beta2))


def optimise(
    loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, stage: Stage, i: int
) -> float:
    """Backward, averaging over processes, clipping, learning rate of step i, optimiser step.

    Returns:
        float: gradient norm before clipping.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    distributed.average_gradients(module)
    norm = clip_gradients(module, stage.clip)
    set_lr(optimizer, stage.lr * schedule(i, stage))
    optimizer.step()
    return norm


def setup(cfg: Config) -> torch.device:
    """Seed torch, set threads, join torchrun's group if there is one, and return the device.

    Raises:
        DD2Error: the device is unknown or is not on this machine.
    """
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    return distributed.start(pick_device(cfg.device))


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


def run_stage(
    cfg: Config, stage: str, job: Trainable, on_grid=None, name: str | None = None
) -> Path:
    """Train `job` to the end of its stage, from wherever the last run stopped.

    Args:
        cfg (Config): the experiment; `getattr(cfg, stage)` holds steps and intervals.
        stage (str): name of the stage: its section of the settings.
        job (Trainable): networks, optimisers and the step.
        on_grid (Callable[[Path], None] | None): writes a sample grid to the given PNG path,
            every `grid_every` steps; see `takes_part` for who calls it.
        name (str | None): of the folder; None is the stage's.

    Returns:
        Path: the stage's folder.

    Raises:
        DD2Error: a state that does not fit, or a loss that is not finite (names step and preset).
    """
    opts, run = getattr(cfg, stage), Run(cfg, stage, name)
    first, seconds = run.resume(job)
    if cfg.dry_run:
        return _dry_run(cfg, run, job)
    main = distributed.is_main()
    if main:
        run.folder.mkdir(parents=True, exist_ok=True)
        run.trim_log(first)
        run.save_config()
    board = _tensorboard(run) if cfg.tensorboard and main else None
    if first >= opts.steps and main:
        print(f"{stage}: all {first} steps are done already")
    bar = tqdm(range(first, opts.steps), desc=f"{cfg.name} {stage}", initial=first,
               total=opts.steps, mininterval=2.0, dynamic_ncols=True, disable=not main)
    since = time.perf_counter()
    for i in bar:
        metrics = seeded_step(cfg, job, i)
        done = i + 1
        if main and (done % opts.log_every == 0 or done == opts.steps):
            now = seconds + time.perf_counter() - since
            run.log({"step": done, "seconds": now, "images": done * opts.batch, **metrics})
            bar.set_postfix({k: f"{v:.4g}" for k, v in list(metrics.items())[:3]},
                            refresh=False)
            for k, v in metrics.items() if board else ():
                board.add_scalar(f"{stage}/{k}", v, done)
        if not takes_part(cfg):
            continue
        if done % opts.save_every == 0 or done == opts.steps:
            run.save(job, done, seconds + time.perf_counter() - since)
        if on_grid and opts.grid_every and done % opts.grid_every == 0:
            on_grid(run.folder / f"grid-{done:06d}.png")
    if board:
        board.close()
    return run.folder


def seeded_step(cfg: Config, job: Trainable, i: int) -> dict[str, float]:
    """`job.step(i)` with torch's generators seeded from (seed, i); checks that it is finite."""
    torch.manual_seed((cfg.seed * 1_000_003 + i) * 4096 + distributed.rank())
    metrics = distributed.average(job.step(i), _device(job))
    bad = [k for k, v in metrics.items() if v != v or v in (float("inf"), float("-inf"))]
    if bad:
        raise DD2Error(
            f"{', '.join(bad)} is not finite at step {i} of preset {cfg.name}: lower the learning "
            "rate; the last saved state is untouched."
        )
    return metrics


def _device(job: Trainable) -> torch.device:
    return next(p.device for m in job.networks.values() for p in m.parameters())


def _tensorboard(run: Run):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise DD2Error("tensorboard=true needs the package: pip install tensorboard.") from None

    return SummaryWriter(run.folder / "tensorboard")


def _dry_run(cfg: Config, run: Run, job: Trainable) -> Path:
    from torch.utils.flop_counter import FlopCounterMode

    opts = getattr(cfg, run.stage)
    with FlopCounterMode(display=False) as counter:
        since = time.perf_counter()
        metrics = seeded_step(cfg, job, 0)
        took = time.perf_counter() - since
    for name, module in job.networks.items():
        n = sum(p.numel() for p in module.parameters())
        print(f"{run.stage}.{name}: {n / 1e6:.3f} M parameters")
    print(f"{run.stage}: {counter.get_total_flops() / 1e9:.1f} GFLOP per step of {opts.batch} "
          f"images, {opts.steps} steps, first step {took:.2f} s, "
          + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
    if torch.cuda.is_available():
        print(f"{run.stage}: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at its peak")
    print(f"{run.stage}: dry run, nothing written")
    return run.folder
