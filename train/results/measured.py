"""What has been measured of a preset: `docs/results/PRESET`, and the shipped folder's results."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from dd2core.results import schema
from dd2core.results.collection import Results, load_results
from dd2core.results.markdown import ABSENT
from dd2core.results.schema import Measurement
from dd2core.store.names import CLASSIFIER, JUDGE, RESULTS
from train.settings.cli import ROOT

OWN = ROOT / "docs" / "results"
EXTRACTORS = (CLASSIFIER, JUDGE)


@dataclass(frozen=True)
class Measured:
    """All measurements of a preset.

    Attributes:
        preset: its name.
        rows: by key of a row (`train.results.rows`), one per repetition.
        other: of the files in docs/results/PRESET that are no row's.
        shipped: what the model folder holds.
        replaced: of the model folder, whose row a file in docs/results/PRESET has taken.
    """

    preset: str
    rows: dict[str, list[Measurement]]
    other: list[Measurement]
    shipped: Results
    replaced: list[Measurement] = field(default_factory=list)

    def fd(self, key: str, extractor: str) -> float | None:
        """Mean FD of a row by an extractor; None where any repetition lacks it."""
        values = [fd_of(m, extractor) for m in self.rows.get(key, [])]
        known = [v for v in values if v is not None]
        return mean(known) if known and len(known) == len(values) else None


def fd_of(m: Measurement, extractor: str) -> float | None:
    """FD by one extractor."""
    return m.fd if extractor == CLASSIFIER else (m.judge.fd if m.judge else None)


def load(preset: str, keys: set[str], own: Path = OWN, assets: Path = ROOT / "assets") -> Measured:
    """Read what there is.

    Args:
        preset (str): its name.
        keys (set[str]): of the rows of the page.
        own (Path): the folder of `docs/results`.
        assets (Path): the folder of the shipped models.

    Raises:
        DD2Error: a file is damaged or no measurement.
    """
    shipped = load_results(assets / preset / RESULTS)
    rows: dict[str, list[Measurement]] = {}
    for m in (m for m in shipped.measurements if m.split == "test"):
        rows.setdefault(_shipped_key(m, shipped), []).append(m)
    found, other = {}, []
    for path in sorted((own / preset).glob("*.json"), key=lambda file: file.stem):
        m, key = schema.read(path), re.sub(r"-s\d+$", "", path.stem)
        if key in keys and m.split == "test":
            found.setdefault(key, []).append(m)
        else:
            other.append(m)
    replaced = [m for key in rows.keys() & found.keys() for m in rows[key]]
    return Measured(preset, rows | found, other, shipped, replaced)


def _shipped_key(m: Measurement, shipped: Results) -> str:
    """The row that a measurement of the shipped folder belongs to; its own tag if to none."""
    if shipped.is_presets_teacher(m):
        return "teacher"
    if m.table == "quality" and m.method == "dd1" and "sweep" not in m.note:
        return "dd1"
    return f"refine-{m.start}" if m.sampler == "refine" else m.tag


def spread(values: list[float | None], form: str) -> str:
    """Mean, and the range where there are several; a dash if any is missing."""
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return ABSENT
    text = format(mean(known), form)
    if len(known) > 1:
        text += f" ({format(min(known), form)}–{format(max(known), form)})"
    return text


def by_both(values: dict[str, str]) -> str:
    """`classifier / judge`; a dash where neither is known."""
    shown = [values[name] for name in EXTRACTORS]
    return ABSENT if set(shown) == {ABSENT} else " / ".join(shown)
