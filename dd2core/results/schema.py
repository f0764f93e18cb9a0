"""One measurement of one sampler: what `train.evaluate` writes and every table is made from.

A file says by itself what it is: `table` names the table that it belongs to, `method` and `note`
what it is called there. Files that were written before those fields existed said it by their name;
`_by_name` reads that grammar, here and nowhere else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dd2core.errors import DD2Error
from dd2core.results.provenance import Provenance
from dd2core.results.record import from_json
from dd2core.sampling import Sampling
from dd2core.store.files import read_json

TABLES = ("quality", "guidance", "refine", "tried")  # that measurements go to
METHODS = {  # in the order of the tables
    "teacher": "AR teacher", "one_step": "**DD2, one step**", "dd2_short": "DD2 early",
    "refine": "one step, then the teacher", "dd1": "DD1, one step",
    "dd1_two_steps": "DD1, two steps",
    "parallel": "parallel sampling, no distillation",
    "skip_last": "AR teacher without its last two steps",
    "euler": "AR diffusion, Euler steps for each token",
    "tokenizer": "floor: tokenizer's reconstructions", "train_set": "floor: training images",
}


SPLITS = ("test", "validation")  # what samples are compared with: see `Measurement.split`


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The same images in another extractor's features; fields as in `Measurement`."""

    fd: float
    fd_percent: float
    precision: float
    recall: float
    accuracy: float
    extractor: str

    def __post_init__(self) -> None:
        _check_shares(self, "precision", "recall", "accuracy")


@dataclass(frozen=True, kw_only=True)
class PathLength:
    """Perceptual path length: d²/ε² of images at two near places of a spherical way between two
    latents, label held, d the Euclidean distance of features.

    Attributes:
        n: pairs of places.
        epsilon: ε, their distance, as a share of the way.
        filtered: mean of those between the first and the last percentile, as StyleGAN takes it.
        all: mean of all.
        judge_filtered, judge_all: the same in the second extractor's features; None without one.
        changed: share of the pairs with any token different.
    """

    n: int
    epsilon: float
    filtered: float
    all: float
    judge_filtered: float | None = None
    judge_all: float | None = None
    changed: float

    def __post_init__(self) -> None:
        _check_shares(self, "changed")


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """How near samples come to training images, beside how near held-out images do; Euclidean
    distances of the first extractor's features, to the nearest training image.

    Attributes:
        n, held, train: how many samples, held-out images and training images.
        quantile: of the held-out distances, below which a sample counts as near.
        threshold: that distance.
        share: of the samples nearer than it; about `quantile` if samples are as real images are.
        median, held_median: of the distances of samples and of held-out images.
    """

    n: int
    held: int
    train: int
    quantile: float
    threshold: float
    share: float
    median: float
    held_median: float

    def __post_init__(self) -> None:
        _check_shares(self, "quantile", "share")


def _check_shares(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}={value}")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Numbers of one sampler against one reference; checked when it is made.

    Attributes:
        sampler: that of `train.evaluate` which made the images.
        method: what is measured, a key of `METHODS` or a word of one's own; mostly the sampler.
        note: what tells it from others of its method, for readers; may be empty.
        table: one of `TABLES`.
        tag: name of its files without suffix.
        n: images; `estimate` says that they are fewer than the measure asks for.
        fd, fd_percent: Fréchet distance (Inception: FID), and that in % of the total variance.
        precision, recall: in [0, 1]; None where the reference has no images.
        accuracy: of the classifier on the images, in [0, 1]; None if measured by Inception.
        inception_score, inception_score_std: None if measured by the classifier.
        teacher_nll, token_entropy: nats per token.
        judge: by a second extractor, where the model folder has one.
        split: `test`, or `validation`: images of the training set that are set apart to choose by,
            though teacher and extractors were trained on them.
        path_length, neighbours: where they were asked for.
        fcs_floor: of the FCS loss, taken with the teacher's own samples.
        passes: network forward passes of one batch; seconds, decode_seconds: of all batches.
        start: refine: the first step that the teacher re-sampled.
        teacher_settings: under which the teacher sampled, and scored the tokens.
        training_minutes: of the generator; None for others, or if the logs are not there.
        seed: of the samples.
        reference, extractor: what the images are compared with, and in which features.
        command: that made it.
        trained_on: the devices that `training_minutes` were spent on; None if that was not noted.
        provenance: of the measurement; None in files from before it was recorded.

    Raises:
        ValueError: numbers that cannot be, in a few words.
    """

    sampler: str
    method: str
    note: str = ""
    table: str
    tag: str
    n: int
    estimate: bool
    fd: float
    fd_percent: float
    inception_score: float | None = None
    inception_score_std: float | None = None
    precision: float | None
    recall: float | None
    accuracy: float | None = None
    judge: Verdict | None = None
    split: str = "test"
    path_length: PathLength | None = None
    neighbours: Neighbours | None = None
    teacher_nll: float
    token_entropy: float
    fcs_floor: float | None = None
    seconds: float | None = None
    decode_seconds: float | None = None
    passes: int
    start: int | None = None
    teacher_settings: Sampling
    training_minutes: float | None
    seed: int
    reference: str
    extractor: str
    command: str
    trained_on: str | None = None
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise ValueError(f"table={self.table}")
        if (self.accuracy is None) == (self.inception_score is None):
            raise ValueError("neither accuracy nor inception_score, or both")
        if (self.sampler == "refine") != (self.start is not None):
            raise ValueError(f"start={self.start} of {self.sampler}")
        if self.n < 1 or self.passes < 0:
            raise ValueError(f"n={self.n}, passes={self.passes}")
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split}")
        _check_shares(self, "precision", "recall", "accuracy")

    @property
    def title(self) -> str:
        """What it is called in a table, in Markdown."""
        name = "try" if self.table == "tried" else METHODS.get(self.method, self.method)
        return f"{name} ({self.note})" if self.note else name

    @property
    def order(self) -> tuple[int, int, str]:
        """Sorts measurements as the tables do: by method, refine by passes, then by tag."""
        names = list(METHODS)
        known = self.table != "tried" and self.method in names
        return names.index(self.method) if known else len(names), -(self.start or 0), self.tag


def read(path: Path) -> Measurement:
    """The measurement in a JSON file.

    Raises:
        DD2Error: the file is missing, damaged or no measurement.
    """
    values = read_json(path)
    try:
        if "table" not in values:
            values = _by_name(path.stem, values) | values
        return from_json(Measurement, values)
    except ValueError as error:
        raise DD2Error(f"{path} is no whole measurement ({error}): copy it again, or measure again "
                       "with train.evaluate.") from None


def _by_name(stem: str, values: dict[str, Any]) -> dict[str, Any]:
    """The fields that files written before had in their name: `METHOD`, `METHOD-NOTE`,
    `teacher-cfgSCALE` (tried guidance), `refine-START`, `try-NOTE` (an estimate on the way).

    In a note, `cfg` stands for guidance and `lr` for a learning rate: `dd1-lr1e-3`.
    """
    method, _, note = stem.partition("-")
    table = {"refine": "refine", "try": "tried"}.get(method, "quality")
    if table == "tried":
        method = values.get("sampler", "")
    elif table == "refine":
        note = f"from step {note}" if note else ""
    else:
        table = "guidance" if stem.startswith("teacher-cfg") else table
        note = note.replace("cfg", "guidance ").replace("lr", "rate ")
    return {"method": method, "note": note, "table": table, "tag": stem}
