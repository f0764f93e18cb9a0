"""Every stage of a preset, in order: `python -m train.all preset=fashion-llamagen`.

Each stage runs in a process of its own and resumes where it stopped, so the same command again
carries on; a finished stage costs seconds. The model folder is exported, measured, and exported
again with what was measured. `skip=evaluate` leaves stages out, and so does `base=…` those that the
base brings: tokenizer, teacher and, if it has one, classifier. `processes=N` trains teacher, score
network and generator in N processes (torchrun), one per GPU; two processes of one thread also train
a small model faster on two CPU cores than one process of two threads. SIGTERM and SIGINT are passed
on to the stage, which saves and ends.
"""

import os
import sys
import time

from dd2core.errors import DD2Error
from dd2core.store.names import ADAPT, SAMPLES, STAGES
from train.engine import base, launch
from train.engine.paths import run_folder
from train.engine.processes.guard import check_launch
from train.settings.cli import main
from train.settings.schema import Config
from train.settings.stages import ALL, PARALLEL, order

SAMPLERS = ("tokenizer", "teacher", "one_step")


def commands(
    words: list[str], skip: set[str], stages: tuple[str, ...] = STAGES
) -> list[list[str]]:
    """The command lines of all of `stages` but `skip`, given the words of this one."""
    out = [[stage, *words] for stage in stages if stage not in skip]
    measured = [["evaluate", *words, f"evaluate.sampler={name}"] for name in SAMPLERS]
    if "evaluate" in skip:
        measured = []
    if "export" in skip:
        return out + measured
    if measured:
        out.append(["export", *words, "export_hub=null"])  # only the second is uploaded
    return [*out, *measured, ["export", *words]]


def launcher(
    stage: str, processes: int, restarts: int = 0
) -> tuple[list[str], dict[str, str]]:
    """The words that start a stage, and its environment."""
    if processes <= 1 or stage not in PARALLEL:
        return [sys.executable, "-m", f"train.{stage}"], dict(os.environ)
    words, needed = launch.torchrun(processes, restarts)
    return [*words, "-m", f"train.{stage}"], {**needed, **os.environ}


def unneeded(cfg: Config) -> set[str]:
    """Stages whose result no other stage of this experiment reads."""
    drawn, adapted = cfg.gts.data == "samples", cfg.adapt.steps > 0
    return (set() if drawn else {SAMPLES}) | (set() if adapted else {ADAPT})


def brought(cfg: Config) -> set[str]:
    """Stages that `base=` makes needless."""
    if not cfg.base:
        return set()
    try:
        classifier = base.classifier(cfg) is not None
    except DD2Error:
        if not cfg.dry_run:
            raise
        classifier = False  # a dry run does without the base
    return {"tokenizer", "teacher"} | ({"classifier"} if classifier else set())


def run(cfg: Config) -> None:
    """Run the stages one after the other; stops at the first that fails."""
    check_launch()
    skip = set(cfg.skip.split(",")) if cfg.skip else set()
    if skip - set(ALL):
        raise DD2Error(f"skip={cfg.skip} names an unknown stage: there are {', '.join(ALL)}.")
    skip |= unneeded(cfg) | brought(cfg) | ({"export", "evaluate"} if cfg.dry_run else set())
    start = time.perf_counter()
    for stage, *args in commands(sys.argv[1:], skip, order(cfg)):
        since = time.perf_counter()
        words, environment = launcher(stage, 1 if cfg.dry_run else cfg.processes, cfg.restarts)
        code = launch.call([*words, *args], environment)
        if code:
            sys.exit(code)
        print(f"all: {stage} took {(time.perf_counter() - since) / 60:.1f} min", flush=True)
    where = "dry run, nothing written" if cfg.dry_run else f"results in {run_folder(cfg)}"
    print(f"all: {(time.perf_counter() - start) / 60:.1f} min, {where}")


if __name__ == "__main__":
    main(run)
