"""Table 3, what training took, and the shape of a shipped model."""

from dataclasses import dataclass
from pathlib import Path

from dd2core.results.collection import load_results
from dd2core.results.markdown import ABSENT, cell, markdown_table
from dd2core.results.schema import Measurement
from dd2core.results.training import stage_machines, stage_minutes
from dd2core.store.files import read_json
from dd2core.store.names import CONFIG, LOGS, RESULTS
from train.results.measured import Measured

PAPER = {  # hours on 8 A800: DD1, DD2, and of it by stage
    "fashion-llamagen": {"DD1": 647.7, "DD2": 52.6, "adapt": 3.3, "gts": 8.6, "csd": 40.7},
    "fashion-var": {"DD1": 296.9, "DD2": 115.5, "gts": 68.1, "csd": 42.6, "alignment": 4.8},
}
TITLES = {"samples": "the teacher's samples", "gts": "GTS", "warm": "warm start, pairs counted",
          "csd": "CSD", "tune": "tuning", "adapt": "adaptation to continuous input",
          "alignment": "alignment"}
TEXT = """The paper's hours on a machine of 8 A800 (Tables 3 and 8), and our minutes, on two CPU
cores that other work shared where no machine is named; the NVIDIA H200 was shared by up to fourteen
trainings. Only minutes of one machine are compared. *DD2 at DD1's FD* is the least training after
which a measured generator was at DD1's FD or below; where the row's DD1 is of a machine that no DD2
was trained on, an earlier DD1 counts, whose minutes stand beside it."""


@dataclass(frozen=True)
class Spent:
    """Minutes of training, and the machine they were spent on; None: two CPU cores."""

    minutes: float
    machine: str | None = None

    def __str__(self) -> str:
        return f"{self.minutes:.0f}" + (f" ({self.machine})" if self.machine else "")


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
    dd1 = _spent(measured, "dd1")
    stages = {k: v for k, v in stage_minutes(folder / LOGS).items() if k in TITLES}
    where = dict.fromkeys(name for stage, name in stage_machines(folder / LOGS).items()
                          if stage in stages and name)
    dd2 = Spent(sum(stages.values()), ", ".join(where) or None) if stages else None
    for name, spent in (("DD1", dd1), ("DD2", dd2)):
        lines.append([name, cell(paper[name], ".1f"), _or_not_run(spent), _times(dd1, spent),
                      f"{paper['DD1'] / paper[name]:.1f}×"])
    for key, title in TITLES.items():
        if key in stages or key in paper:
            lines.append([f"of it: {title}", cell(paper.get(key), ".1f"),
                          cell(stages.get(key), ".0f"), ABSENT, ABSENT])
    reached, there = _reached(measured)
    beside = f", DD1 there {there.minutes:.0f}" if there and there != dd1 else ""
    paper_recipe = _spent(measured, "one_step-paper")
    lines += [
        ["DD2 at DD1's FD", ABSENT, _or_not_run(reached) + beside, _times(there, reached), ABSENT],
        ["DD2 by the paper's recipe", ABSENT, _or_not_run(paper_recipe),
         _times(dd1, paper_recipe), ABSENT],
    ]
    return markdown_table(("", "paper, hours", "ours, minutes", "times less than DD1",
                           "the paper's"), lines)


def _spent(measured: Measured, key: str) -> Spent | None:
    """Mean minutes of a row's repetitions on the machine of the first."""
    known = [_of(m) for m in measured.rows.get(key, []) if m.training_minutes]
    same = [spent.minutes for spent in known if spent.machine == known[0].machine]
    return Spent(sum(same) / len(same), known[0].machine) if known else None


def _of(m: Measurement) -> Spent:
    assert m.training_minutes is not None
    return Spent(m.training_minutes, m.trained_on)


def _reached(measured: Measured) -> tuple[Spent | None, Spent | None]:
    """Least minutes of a DD2 generator whose FD is at most DD1's, by the classifier, and those of
    that DD1, on one machine: the row's, or an earlier one's where nothing was trained beside it."""
    every = [m for rows in measured.rows.values() for m in rows] + measured.replaced + [
        m for m in measured.other if m.split == "test"]
    one_step = [m for m in every if m.training_minutes and m.sampler == "one_step"]
    baselines = measured.rows.get("dd1", []) + measured.replaced
    for dd1 in (m for m in baselines if m in one_step and m.method == "dd1"):
        good = [_of(m) for m in one_step if m.method != "dd1" and m.trained_on == dd1.trained_on
                and m.fd is not None and dd1.fd is not None and m.fd <= dd1.fd]
        if good:
            return min(good, key=lambda spent: spent.minutes), _of(dd1)
    return None, None


def _or_not_run(spent: Spent | None) -> str:
    return "not run" if spent is None else str(spent)


def _times(dd1: Spent | None, spent: Spent | None) -> str:
    """How many times less than DD1; nothing where the machines are two."""
    same = dd1 is not None and spent is not None and dd1.machine == spent.machine
    return f"{dd1.minutes / spent.minutes:.1f}×" if same and spent.minutes else ABSENT
