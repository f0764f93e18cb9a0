"""What training took, from the logs of its stages: `logs/STAGE.jsonl`, a line now and then."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dd2core.errors import DD2Error
from dd2core.results.markdown import markdown_table
from dd2core.store.files import read_json
from dd2core.store.names import STAGES

UNNOTED = "two CPU cores"  # that other work shared: what was trained before machines were noted
TRAINED_ON = "trained_on"  # key in a stage's result


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a training log; one that a kill cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def logs_in_order(logs: Path) -> list[Path]:
    """The logs in a folder, in the order in which the stages run, unknown ones last."""
    def order(path: Path) -> tuple[int, str]:
        return STAGES.index(path.stem) if path.stem in STAGES else len(STAGES), path.stem

    return sorted(logs.glob("*.jsonl"), key=order)


def training_table(logs: Path) -> str:
    """Markdown table of what each stage took, by its log; empty without logs. It names machines
    where one was noted, and adds the minutes up where none was.

    Raises:
        DD2Error: a log is damaged.
    """
    stages = _stages(logs)
    noted = any(s.machine for s in stages)
    rows = [[s.name, f"{s.step:,}", f"{s.images:,}", f"{s.minutes:.0f}",
             *([s.machine or UNNOTED] if noted else [])] for s in stages]
    table = markdown_table(("stage", "steps", "images", "minutes", *(["machine"] * noted)), rows)
    if not table or noted:  # minutes of two machines make no sum
        return table
    return f"{table}\n| all | | | {sum(s.minutes for s in stages):.0f} |"


def stage_minutes(logs: Path) -> dict[str, float]:
    """Minutes that each stage took, by name, in their order; see `training_table`."""
    return {s.name: s.minutes for s in _stages(logs)}


def stage_machines(logs: Path) -> dict[str, str | None]:
    """The machine of each stage, by name; None where none was noted."""
    return {s.name: s.machine for s in _stages(logs)}


@dataclass(frozen=True)
class _Stage:
    """The end of a stage's log."""

    name: str
    step: int
    images: int
    minutes: float
    machine: str | None = None


def _stages(logs: Path) -> list[_Stage]:
    found = []
    for path in logs_in_order(logs):
        if path.stem not in STAGES:
            continue
        last = (read_log(path) or [{}])[-1]
        try:
            result = _result(path.with_suffix(".json"))
            seconds = float(last["seconds"]) + result.get("pair_seconds", 0.0)
            found.append(_Stage(path.stem, int(last["step"]), int(last["images"]), seconds / 60,
                                result.get(TRAINED_ON)))
        except (KeyError, TypeError, ValueError):
            raise DD2Error(f"{path} is no log of a stage: copy it again.") from None
    return found


def _result(path: Path) -> dict[str, Any]:
    """What a stage has written at its end: DD1's pairs took `pair_seconds` before it."""
    return read_json(path) if path.exists() else {}
