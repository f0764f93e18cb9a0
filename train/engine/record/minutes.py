"""What training the generator that is evaluated took, by the logs of its run."""

from pathlib import Path

from dd2core.results.training import read_log
from dd2core.store.files import read_json, sha256
from dd2core.store.names import LOG, RESULT, SAMPLES, step_of, weights
from train.engine.paths import run_folder
from train.engine.record.provenance import machines
from train.settings.schema import Config
from train.settings.stages import distilled

GENERATOR = weights("generator")


def training_minutes(cfg: Config, folder: Path | None) -> float | None:
    """Minutes that training the evaluated generator took: the teacher's samples if GTS is on them,
    GTS, DD1's pairs, the warm start, CSD up to the evaluated step or all of it, tuning. None if the
    logs are not in the run folder, or the generator is not of this run.

    Args:
        cfg (Config): the experiment.
        folder (Path | None): the model folder that is evaluated, if it is one.
    """
    file = _generator(cfg, folder)
    if file is None:
        return None
    step, seconds = step_of(file), 0.0
    for part in _stages(cfg, file):
        last = part == file.parent and step is not None
        if not (part / LOG).exists():
            return None
        seconds += max((r.get("seconds", 0.0) for r in read_log(part / LOG)
                        if not last or r.get("step", 0) <= step), default=0.0)
        result = part / RESULT
        seconds += read_json(result).get("pair_seconds", 0.0) if result.exists() else 0.0
    return seconds / 60


def trained_on(cfg: Config, folder: Path | None) -> str | None:
    """The devices that these minutes were spent on; None if there are none, or nobody noted it."""
    file = _generator(cfg, folder)
    return None if file is None else machines(*_stages(cfg, file))


def _generator(cfg: Config, folder: Path | None) -> Path | None:
    """The file of the evaluated generator in the run folder, if it is of this run."""
    o, run = cfg.evaluate, run_folder(cfg)
    file = run / distilled(cfg) / GENERATOR
    if o.sampler not in ("one_step", "dd1_two_steps") or folder is None:
        return None
    if o.weights:
        file = Path(o.weights)
        return file if file.resolve().parent.parent == run.resolve() else None
    return file if _same(file, folder / GENERATOR) else None


def _stages(cfg: Config, file: Path) -> list[Path]:
    """The folders of the stages that the generator in `file` is made of."""
    run, stage = run_folder(cfg), file.parent.name
    folders = [run / "gts", file.parent]
    if cfg.gts.data == "samples":
        folders.insert(0, run / SAMPLES)
    if stage == "tune":
        folders.insert(1, run / "csd")
    if stage in ("csd", "tune") and cfg.csd.start == "warm":
        folders.insert(1, run / cfg.warm.name)
    return folders


def _same(a: Path, b: Path) -> bool:
    return a.is_file() and b.is_file() and sha256(a) == sha256(b)
