"""Where a measurement comes from: code, time, machine, versions, seed, weights."""

from dataclasses import dataclass

BEFORE = "before provenance was recorded"  # of files that have none


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What has to be known to measure again.

    Attributes:
        commit: of the checkout that ran, in full; None outside of a git checkout.
        changed: whether tracked files differed from that commit; None without one.
        date: when it was written, UTC, `2026-01-31T12:00:00Z`.
        device: name of the GPU, or model of the CPU.
        cores: CPU cores that the process might use.
        versions: of Python and of the libraries that compute, by name.
        seed: of the command.
        weights: sha256 of each file of weights that was used, by file name.
    """

    commit: str | None
    changed: bool | None
    date: str
    device: str
    cores: int
    versions: dict[str, str]
    seed: int
    weights: dict[str, str]

    def __post_init__(self) -> None:
        if self.commit is not None and len(self.commit) < 40:
            raise ValueError(f"commit={self.commit}")
        if not self.date.endswith("Z"):
            raise ValueError(f"date={self.date}")

    def line(self) -> str:
        """In one line, for a page: commit, day, device, torch, seed."""
        changed = " with changes" if self.changed else ""
        code = "no commit" if self.commit is None else f"commit {self.commit[:10]}{changed}"
        return (f"{code}, {self.date[:10]}, {self.device}, {self.cores} cores, torch "
                f"{self.versions.get('torch', '?')}, seed {self.seed}")


def told(provenance: Provenance | None) -> str:
    """The line of a measurement; says so where it has none."""
    return BEFORE if provenance is None else provenance.line()
