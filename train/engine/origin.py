"""What a stage is made of: its settings, its data, the weights before it.

`origin.json` in the folder of a stage says so. A run that goes on, or is used by the stages after
it, must still be made of the same; else its result would be of neither. What does not change a
result (`FREE`; threads, device, folders, …) is not in it.
"""

import dataclasses
import functools
import json
import os
from pathlib import Path

from dd2core.errors import DD2Error, some
from dd2core.store import names
from dd2core.store.files import read_json, sha256
from train.data.digest import data_digest
from train.engine import base
from train.engine.paths import first_weights, perceptual_file, run_folder
from train.settings.schema import Config, CSDStage

# Settings of a stage that do not change its result (the last two: beyond the rounding of a sum).
FREE = ("log_every", "save_every", "accumulate", "checkpoint_blocks")
NAMED_BY_DIGEST = ("init", "perceptual_net")  # files of a stage, known by what is in them
COMMON = ("seed", "family", "image_size", "channels")
GO_ON = "add resume=anyway to go on with what is there"


def origin(cfg: Config, stage: str) -> dict:
    """What `stage` would be made of now, as JSON: settings, data, files.

    Raises:
        DD2Error: a file before it is missing, or the data are.
    """
    found = {"settings": _settings(cfg, stage), "files": {}}
    for name, path in inputs(cfg, stage).items():
        found["files"][name] = digest(path)
    if stage in ("tokenizer", "classifier"):
        found["data"] = data_digest(cfg)
    return json.loads(json.dumps(found))


def inputs(cfg: Config, stage: str) -> dict[str, Path]:
    """The files that a stage starts from, by their name in the run folder."""
    run = run_folder(cfg)
    drawn = cfg.gts.data == "samples" and stage not in ("teacher", names.ADAPT)
    files = [run / (names.SAMPLES_ORIGIN if drawn else names.TOKENS_ORIGIN),
             base.tokenizer_file(cfg)]
    if stage == "tokenizer":
        return _of_tokenizer(cfg, run)
    if stage == "classifier":
        return {}
    if stage in (names.ADAPT, names.ADAPT_FIT):
        return _of_adapt(cfg, run, stage, files)
    if stage != "teacher":
        files.append(base.teacher_file(cfg))
    if stage in ("warm", "dd1"):
        files.append(first_weights(cfg, "gts")[0])
    elif stage in ("csd", "tune"):
        files += first_weights(cfg, getattr(cfg, stage).start)
    return {_name(path, run): path for path in files}


def _of_adapt(cfg: Config, run: Path, stage: str, files: list[Path]) -> dict[str, Path]:
    own = [run / names.ADAPT_FIT / names.weights("input"), *files[:1]] * (stage == names.ADAPT)
    files = [*own, *files[1:], base.source_teacher_file(cfg)]
    return {_name(path, run): path for path in files}


def _of_tokenizer(cfg: Config, run: Path) -> dict[str, Path]:
    o, found = cfg.tokenizer, {}
    if (net := perceptual_file(cfg)) is not None:
        own = o.perceptual_net == names.CLASSIFIER
        found[_name(net, run) if own else f"perceptual/{net.name}"] = net
    if o.init:
        found[f"init/{Path(o.init).name}"] = Path(o.init)
    return found


def _name(path: Path, run: Path) -> str:
    return path.relative_to(run).as_posix() if path.is_relative_to(run) else f"base/{path.name}"


def _settings(cfg: Config, stage: str) -> dict:
    section = getattr(cfg, stage)
    found = {key: getattr(cfg, key) for key in COMMON} | {stage: _bound(section)}
    if stage in ("tokenizer", "classifier"):  # the others know it by what the tokens are made of
        found["tokens"] = {"transform": cfg.tokens.transform}
    if stage in (names.ADAPT, names.ADAPT_FIT):
        found["teacher"] = {k: getattr(cfg.teacher, k) for k in ("input_hidden", "input_layers")}
    elif stage not in ("tokenizer", "classifier", "teacher"):
        found["head"] = dataclasses.asdict(cfg.head)
        if stage == "gts":  # a network as deep as the teacher, whatever the generator will be
            del found["head"]["generator_depth"]
    if isinstance(section, CSDStage) and section.pair_share > 0:
        found["warm"] = _bound(cfg.warm)  # whose pairs it regresses
    return found


def _bound(section) -> dict:
    """The settings of a section that change its result."""
    free = (*FREE, *NAMED_BY_DIGEST)
    if not getattr(section, "average", None):
        free = (*free, "grid_every")
    return {k: v for k, v in dataclasses.asdict(section).items() if k not in free}


def digest(path: Path) -> str:
    """sha256 of a file, taken once as long as the file is the same."""
    try:
        found = os.stat(path)
    except OSError:
        return sha256(path)  # says what is wrong
    return _digest(path, found.st_size, found.st_mtime_ns, found.st_ino)


@functools.lru_cache(64)
def _digest(path: Path, _size: int, _time: int, _inode: int) -> str:
    return sha256(path)


def differences(was: dict, now: dict) -> list[str]:
    """What differs, in words."""
    # A setting that is newer than the run: it was made with its default, which changes nothing.
    known = _flat(dataclasses.asdict(Config()))
    before, after = _flat(was.get("settings", {})), _flat(now["settings"])
    before |= {k: known[k] for k in after.keys() - before.keys() if k in known}
    found = [f"{k}={before.get(k)} (now {after.get(k)})" for k in sorted(before | after)
             if before.get(k) != after.get(k)]
    files, own = was.get("files", {}), now["files"]
    found += [f"another {k}" for k in sorted(files | own) if files.get(k) != own.get(k)]
    return found + ["other data"] * (was.get("data") != now.get("data"))


def _flat(values: dict, before: str = "") -> dict:
    found = {}
    for key, value in values.items():
        inner = isinstance(value, dict)
        found |= _flat(value, f"{before}{key}.") if inner else {f"{before}{key}": value}
    return found


def check_before(cfg: Config, stage: str) -> None:
    """Refuse to build `stage` on stages that were built on what is not there any more.

    Raises:
        DD2Error: a stage before it was made of other tokens or weights.
    """
    for path in inputs(cfg, stage).values():
        check_made_of_present(cfg, path.parent)


def check_made_of_present(cfg: Config, folder: Path) -> None:
    """Refuse a stage's folder that was made of other tokens or weights than are there now.

    Raises:
        DD2Error: says of which.
    """
    run = run_folder(cfg)
    if cfg.resume == "anyway" or folder.parent != run or not (folder / names.ORIGIN).is_file():
        return
    was = read_json(folder / names.ORIGIN).get("files", {})
    now = {_name(path, run): path for path in (
        base.tokenizer_file(cfg), base.teacher_file(cfg), base.source_teacher_file(cfg))}
    stale = [name for name, before in was.items()
             if (path := now.get(name, run / name)).is_file() and digest(path) != before]
    if stale:
        raise DD2Error(f"{folder} was trained on another {some(stale)}: move it away to train "
                       f"{folder.name} anew, or {GO_ON}.")
    for before in {(run / name).parent for name in was} - {folder}:
        check_made_of_present(cfg, before)
