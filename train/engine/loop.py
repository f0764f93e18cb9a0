"""The loop that every training stage runs in: resume, log, save, sample grids.

A stage is an object with `networks` (name → module), `optimizers` (name → optimiser) and
`step(i) → metrics`. Everything random in step i is a function of (seed, i), so a resumed run is the
uninterrupted run.
"""

import time
from pathlib import Path

import torch
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.tools.device import pick_device
from train.engine import distributed
from train.engine.run_folder import Run, Trainable
from train.engine.sharding import takes_part
from train.settings.schema import Config


def setup(cfg: Config) -> torch.device:
    """Seed torch, set threads, join torchrun's group if there is one, and return the device.

    Raises:
        DD2Error: the device is unknown or is not on this machine.
    """
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    return distributed.start(pick_device(cfg.device))


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
