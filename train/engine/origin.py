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
from train.engine.paths import first_weights, run_folder
from train.settings.schema import Config, CSDStage

# Settings of a stage that do not change its result (the last two: beyond the rounding of a sum).
FREE = ("log_every", "save_every", "accumulate", "checkpoint_blocks")
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
    drawn = cfg.gts.data == "samples" and stage != "teacher"
    files = [run / (names.SAMPLES_ORIGIN if drawn else names.TOKENS_ORIGIN),
             base.tokenizer_file(cfg)]
    if stage in ("tokenizer", "classifier"):
        return {}
    if stage != "teacher":
        files.append(base.teacher_file(cfg))
    if stage in ("warm", "dd1"):
        files.append(first_weights(cfg, "gts")[0])
    elif stage in ("csd", "tune"):
        files += first_weights(cfg, getattr(cfg, stage).start)
    return {_name(path, run): path for path in files}


def _name(path: Path, run: Path) -> str:
    return path.relative_to(run).as_posix() if path.is_relative_to(run) else f"base/{path.name}"


def _settings(cfg: Config, stage: str) -> dict:
    section = getattr(cfg, stage)
    found = {key: getattr(cfg, key) for key in COMMON} | {stage: _bound(section)}
    if stage not in ("tokenizer", "classifier", "teacher"):
        found["head"] = dataclasses.asdict(cfg.head)
    if isinstance(section, CSDStage) and section.pair_share > 0:
        found["warm"] = _bound(cfg.warm)  # whose pairs it regresses
    return found


def _bound(section) -> dict:
    """The settings of a section that change its result."""
    free = FREE if getattr(section, "average", None) else (*FREE, "grid_every")
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
    before, after = _flat(was.get("settings", {})), _flat(now["settings"])
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
    now = {_name(path, run): path for path in (base.tokenizer_file(cfg), base.teacher_file(cfg))}
    stale = [name for name, before in was.items()
             if (path := now.get(name, run / name)).is_file() and digest(path) != before]
    if stale:
        raise DD2Error(f"{folder} was trained on another {some(stale)}: move it away to train "
                       f"{folder.name} anew, or {GO_ON}.")
    for before in {(run / name).parent for name in was} - {folder}:
        check_made_of_present(cfg, before)
