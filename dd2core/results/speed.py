"""The times of all samplers of one model: what `train.benchmark` writes."""

from dataclasses import dataclass, field
from pathlib import Path

from dd2core.errors import DD2Error
from dd2core.results.provenance import Provenance
from dd2core.results.record import from_json
from dd2core.sampling import Sampling
from dd2core.store.files import read_json


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """Times at one batch size, by the name of the sampler: teacher, one_step, decode, yardstick,
    refine_START.

    Attributes:
        batch: images per call.
        ms: median milliseconds per call.
        ms_range: least and most of them.
        threads: CPU threads of each.
        ratio: teacher / one step; ratio_with_decoding: both with the decoder's time added.
        teacher_over_yardstick: the teacher against a plain sampler, where there is one.
    """

    batch: int
    ms: dict[str, float]
    threads: dict[str, int] = field(default_factory=dict)
    ms_range: dict[str, tuple[float, ...]] = field(default_factory=dict)
    ratio: float
    ratio_with_decoding: float
    teacher_over_yardstick: float | None = None

    def __post_init__(self) -> None:
        missing = {"teacher", "one_step", "decode"} - self.ms.keys()
        if missing or min(self.ms.values()) <= 0:
            raise ValueError(f"ms without {', '.join(sorted(missing))}" if missing else "ms ≤ 0")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A benchmark of one model on one device.

    Attributes:
        preset, device, torch, dtype: of what, on what, with what.
        teacher_settings: under which the teacher sampled.
        repeats: rounds, of which the medians are.
        passes, flops_per_image: by sampler.
        rows: one per batch size.
        command: that made it.
        engine: torch or onnx; files from before there were two do not say it: torch.
        public_greedy_agreement: share of tokens alike, greedily, where the official repository's
            sampler was timed beside ours.
        provenance: None in files from before it was recorded.
    """

    preset: str
    device: str
    torch: str
    dtype: str
    teacher_settings: Sampling
    repeats: int
    passes: dict[str, int]
    flops_per_image: dict[str, float]
    rows: tuple[SpeedRow, ...]
    command: str
    engine: str | None = None
    public_greedy_agreement: float | None = None
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        for name, numbers, keys in (("passes", self.passes, {"teacher"}), (
                "flops_per_image", self.flops_per_image, {"teacher", "one_step", "decode"})):
            if missing := keys - numbers.keys():
                raise ValueError(f"{name} without {', '.join(sorted(missing))}")

    def of_one_image(self) -> dict[str, float]:
        """Milliseconds of each sampler at batch 1; empty if that was not timed."""
        return next((row.ms for row in self.rows if row.batch == 1), {})


def read_speed(path: Path) -> Speed:
    """The benchmark in a JSON file.

    Raises:
        DD2Error: the file is missing, damaged or no benchmark.
    """
    try:
        return from_json(Speed, read_json(path))
    except ValueError as error:
        raise DD2Error(f"{path} is no whole benchmark ({error}): copy it again, or measure again "
                       "with train.benchmark.") from None
