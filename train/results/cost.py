"""Table 3, what training took, and the shape of a shipped model."""

from pathlib import Path

from dd2core.results.collection import load_results
from dd2core.results.markdown import ABSENT, cell, markdown_table
from dd2core.results.training import stage_minutes
from dd2core.store.files import read_json
from dd2core.store.names import CLASSIFIER, CONFIG, LOGS, RESULTS
from train.results.measured import Measured, fd_of

PAPER = {  # hours on 8 A800: DD1, DD2, and of it by stage
    "fashion-llamagen": {"DD1": 647.7, "DD2": 52.6, "adapt": 3.3, "gts": 8.6, "csd": 40.7},
    "fashion-var": {"DD1": 296.9, "DD2": 115.5, "gts": 68.1, "csd": 42.6, "alignment": 4.8},
}
TITLES = {"samples": "the teacher's samples", "gts": "GTS", "warm": "warm start, pairs counted",
          "csd": "CSD", "tune": "tuning", "adapt": "adaptation to continuous input",
          "alignment": "alignment"}
TEXT = """The paper's hours on a machine of 8 A800 (Tables 3 and 8), and our minutes on two CPU
cores that other work shared, by the logs of the shipped models. *DD2 at DD1's FD* is the least
training after which a measured generator was at DD1's FD or below."""


def shape(folder: Path) -> tuple[list[int], int]:
    """Of a shipped model: the steps from which the teacher has sampled anew, last first, and how
    many steps it has."""
    sizes = read_json(folder / CONFIG)["transformer"]
    scales = sizes.get("patch_nums")
    steps = len(scales) if scales else sizes["grid"] ** 2
    measured = load_results(folder / RESULTS).of("refine")
    starts = {m.start for m in measured if m.start is not None} or {steps - 1}
    return sorted(starts, reverse=True), steps


def table(measured: Measured, folder: Path) -> str:
    """Rows DD1, DD2 and its stages: the paper's hours, our minutes."""
    paper, lines = PAPER[measured.preset], []
    dd1 = _minutes(measured, "dd1")
    stages = {k: v for k, v in stage_minutes(folder / LOGS).items() if k in TITLES}
    dd2 = sum(stages.values()) if stages else None
    for name, minutes in (("DD1", dd1), ("DD2", dd2)):
        lines.append([name, cell(paper[name], ".1f"), _or_not_run(minutes),
                      _times(dd1, minutes), _times(paper["DD1"], paper[name])])
    for key, title in TITLES.items():
        if key in stages or key in paper:
            lines.append([f"of it: {title}", cell(paper.get(key), ".1f"),
                          cell(stages.get(key), ".0f"), ABSENT, ABSENT])
    reached = _reached(measured)
    lines.append(["DD2 at DD1's FD", ABSENT, _or_not_run(reached), _times(dd1, reached), ABSENT])
    paper_recipe = _minutes(measured, "one_step-paper")
    lines.append(["DD2 by the paper's recipe", ABSENT, _or_not_run(paper_recipe),
                  _times(dd1, paper_recipe), ABSENT])
    return markdown_table(("", "paper, hours", "ours, minutes", "times less than DD1",
                           "the paper's"), lines)


def _minutes(measured: Measured, key: str) -> float | None:
    known = [m.training_minutes for m in measured.rows.get(key, []) if m.training_minutes]
    return sum(known) / len(known) if known else None


def _reached(measured: Measured) -> float | None:
    """Least minutes of a DD2 generator whose FD is at most DD1's, by the classifier."""
    dd1 = measured.fd("dd1", CLASSIFIER)
    found = [m for rows in measured.rows.values() for m in rows
             if m.sampler == "one_step" and m.method in ("one_step", "dd2_short")]
    good = [m.training_minutes for m in found + [m for m in measured.other if m.split == "test"]
            if dd1 is not None and m.training_minutes and m.sampler == "one_step"
            and m.method != "dd1" and (fd_of(m, CLASSIFIER) or 0) <= dd1]
    return min(good, default=None)


def _or_not_run(value: float | None) -> str:
    return "not run" if value is None else f"{value:.0f}"


def _times(dd1: float | None, value: float | None) -> str:
    return ABSENT if dd1 is None or not value else f"{dd1 / value:.1f}×"
