"""All that was measured of one model, read from the `results/` of its folder."""

from dataclasses import dataclass
from pathlib import Path

from dd2core.errors import DD2Error
from dd2core.results import schema
from dd2core.results.record import from_json
from dd2core.results.schema import Measurement
from dd2core.results.speed import Speed, read_speed
from dd2core.sampling import Sampling
from dd2core.store.files import read_json
from dd2core.store.names import BENCHMARK, CONFIG

SPEED = BENCHMARK


@dataclass(frozen=True)
class Results:
    """What was measured of a model.

    Attributes:
        folder: where it was read.
        measurements: in the order of the tables.
        speed: the benchmark, or None.
        preset: the model's own settings of the teacher.
    """

    folder: Path
    measurements: tuple[Measurement, ...]
    speed: Speed | None
    preset: Sampling

    def of(self, *tables: str) -> list[Measurement]:
        """The measurements that belong to some tables."""
        return [m for m in self.measurements if m.table in tables]

    def is_presets_teacher(self, m: Measurement) -> bool:
        """Whether a measurement is the teacher's under the model's own settings."""
        return m.sampler == "teacher" and m.teacher_settings == self.preset

    def picture(self, m: Measurement) -> Path | None:
        """The sample grid of a measurement, if there is one."""
        path = self.folder / f"{m.tag}.png"
        if not path.is_file() and self.is_presets_teacher(m):
            path = self.folder / f"{m.sampler}.png"  # drawn without a tag of its own
        return path if path.is_file() else None


def load_results(folder: Path, skip_damaged: bool = False) -> Results:
    """Read `folder`, which is the `results/` of a model folder; it may be empty or missing.

    Args:
        folder (Path): beside it lies the model's config.json.
        skip_damaged (bool): leave files out that cannot be read, for who only shows what is there.

    Raises:
        DD2Error: config.json is missing or damaged, or (without `skip_damaged`) a file is.
    """
    config = folder.parent / CONFIG
    try:
        preset = from_json(Sampling, read_json(config).get("sampling"))
    except ValueError as error:
        raise DD2Error(f"{config} has no whole settings of the teacher ({error}): copy it "
                       "again.") from None
    measurements, speed = [], None
    for path in sorted(folder.glob("*.json")):
        try:
            if path.name == SPEED:
                speed = read_speed(path)
            else:
                measurements.append(schema.read(path))
        except DD2Error:
            if not skip_damaged:
                raise
    return Results(folder, tuple(sorted(measurements, key=lambda m: m.order)), speed, preset)
