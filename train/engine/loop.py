"""The loop that every training stage runs in: resume, log, save, sample grids.

A stage is an object with `networks` (name → module), `optimizers` (name → optimiser),
`step(i) → metrics` and `finish(folder)`. Everything random in step i is a function of (seed, stage,
i), so a resumed run is the uninterrupted run, and one in several processes or passes the same as in
one (up to the rounding of a sum).
"""

import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.noise import stream_seed
from dd2core.tools.device import pick_device
from train.engine import distributed, signals
from train.engine.processes import guard
from train.engine.record.boards import Boards
from train.engine.record.meter import Meter
from train.engine.record.provenance import note_machine
from train.engine.run_folder import Run, Trainable
from train.engine.sharding import takes_part
from train.settings.schema import Config


def setup(cfg: Config) -> torch.device:
    """Seed torch, set threads, join torchrun's group if there is one, and return the device.

    Raises:
        DD2Error: the device is unknown or is not on this machine, a launcher started several tasks
            without torchrun, or torchrun's processes were given other settings.
    """
    guard.check_launch()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(stream_seed(cfg.seed, "first weights"))
    device = distributed.start(pick_device(cfg.device), cfg.timeout)
    guard.check_settings(cfg)
    return device


def run_stage(
    cfg: Config, stage: str, job: Trainable, on_grid=None, name: str | None = None
) -> Path:
    """Train `job` to the end of its stage, from wherever the last run stopped, and finish it.

    Args:
        cfg (Config): the experiment; `getattr(cfg, stage)` holds steps and intervals.
        stage (str): name of the stage: its section of the settings.
        job (Trainable): networks, optimisers, the step and what is written at the end.
        on_grid (Callable[[int], None] | None): writes a sample grid of a step into the folder,
            every `grid_every` steps; see `takes_part` for who calls it.
        name (str | None): of the folder; None is the stage's.

    Returns:
        Path: the stage's folder.

    Raises:
        DD2Error: a batch that does not divide, a state that does not fit or is of another run, a
            folder that another process trains in, processes that differ or are gone, or a loss
            that is not finite (names step and preset).
        SystemExit: SIGTERM or SIGINT came; the step was finished and saved.
    """
    run = Run(cfg, stage, name)
    distributed.check_batch(stage, getattr(cfg, stage))
    guard.spread_first(*job.networks.values())
    if cfg.dry_run:
        run.resume(job)
        return _dry_run(cfg, run, job)
    with guard.lost_is_a_sentence(cfg.timeout), run.held():
        main = distributed.is_main()
        with guard.together():
            write = run.check_origin() if main else False
        first, seconds = run.resume(job)
        if main and first >= getattr(cfg, stage).steps:
            print(f"{stage}: all {first} steps are done already")
        if main and (write or first < getattr(cfg, stage).steps):
            run.begin(first)
            note_machine(run.folder, _device(job), cfg.seed)
        _train(cfg, run, job, first, seconds, on_grid)
        if takes_part(cfg):
            job.finish(run.folder)
    return run.folder


def _train(cfg: Config, run: Run, job: Trainable, first: int, seconds: float, on_grid) -> None:
    """The steps from `first` on. A grid, and the snapshot beside it, is written before the state:
    a state never claims what a kill has kept from being there."""
    opts, stage, main = getattr(cfg, run.stage), run.stage, distributed.is_main()
    with guard.together():
        boards = Boards(cfg, stage, run.folder, first) if main else None
    meter = Meter(cfg, stage, _device(job), first, main)
    bar = tqdm(range(first, opts.steps), desc=f"{cfg.name} {stage}", initial=first,
               total=opts.steps, mininterval=2.0, dynamic_ncols=True, disable=not main)
    since = time.perf_counter()
    meter.start()
    with signals.watch() as asked:
        for i in bar:
            if getattr(job, "ended", False):  # before all steps
                break
            metrics = seeded_step(cfg, job, i, stage)
            done = i + 1
            now = seconds + time.perf_counter() - since
            if main and (done % opts.log_every == 0 or done == opts.steps):
                rates = meter.numbers(done, job.optimizers)
                run.log({"step": done, "seconds": now, "images": done * opts.batch, **metrics,
                         **rates})
                bar.set_postfix(_shown(metrics, rates), refresh=False)
                boards.add(done, {**metrics, **rates})
            stop = distributed.anyone(asked.signal is not None, _device(job))
            if takes_part(cfg):
                if on_grid and opts.grid_every and done % opts.grid_every == 0:
                    on_grid(done)
                last = done == opts.steps or getattr(job, "ended", False)
                if stop or last or done % opts.save_every == 0:
                    now = seconds + time.perf_counter() - since
                    _save(cfg, run, job, done, now, last)
            if stop:
                run.end_parts()
                bar.close()
                if main:
                    print(f"{stage}: stopped and saved after step {done}, the same command again "
                          "goes on there", file=sys.stderr)
                sys.exit(asked.exit_code)
    if boards:
        boards.close()


def _save(cfg: Config, run: Run, job: Trainable, done: int, seconds: float, last: bool) -> None:
    """A state: whole at the end, on the way there in parts where the run is sharded."""
    if cfg.shard and distributed.world() > 1 and not last:
        run.save_parts(job, done, seconds)
    else:
        run.save(job, done, seconds)
    if distributed.is_main():
        run.prune_snapshots(getattr(cfg, run.stage))


def _shown(metrics: dict[str, float], rates: dict[str, float]) -> dict[str, str]:
    """What stands in the progress bar; seconds to the end are in its own words."""
    few = dict(list(metrics.items())[:3]) | {
        short: rates[k] for k, short in (("lr", "lr"), ("images_per_s", "img/s"), ("mfu", "mfu"),
                                         ("memory_gib", "GiB")) if k in rates}
    return {k: f"{v:.4g}" for k, v in few.items()}


def seeded_step(cfg: Config, job: Trainable, i: int, stage: str) -> dict[str, float]:
    """`job.step(i)` with torch's generators seeded from (seed, stage, i); checks that it is
    finite. All processes draw the same numbers, those of the whole batch, and take their rows."""
    torch.manual_seed(stream_seed(cfg.seed, f"step of {stage}", i, 0))
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


def _dry_run(cfg: Config, run: Run, job: Trainable) -> Path:
    from torch.utils.flop_counter import FlopCounterMode

    opts = getattr(cfg, run.stage)
    with FlopCounterMode(display=False) as counter:
        since = time.perf_counter()
        metrics = seeded_step(cfg, job, 0, run.stage)
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
