"""Measure a sampler: `python -m train.evaluate preset=fashion-llamagen sampler=one_step n=10000`.

Prints FD, precision, recall, class accuracy, the teacher's NLL of the tokens, their entropy and the
seconds, with N, the extractor and the teacher's settings; writes them as JSON and a sample grid as
PNG into the run folder. Where the model folder has a second extractor (`judge.safetensors`), the
same images are measured by both. Samplers: teacher, one_step, refine, parallel, skip_last, euler,
dd1_two_steps; the floors: tokenizer (reconstructions of the held-out images) and train_set.

`split=validation` compares with training images that are set apart: choose by these, report by the
test set. `ppl=N` adds the perceptual path length, `neighbours=N` the nearest training images with a
sheet of them. `results=docs/results/NAME tag=ROW` writes a row of docs/results.md (`train.report`).

`features=inception reference=FOLDER` measures FID, Inception Score, precision and recall in place
of FD and accuracy, on samples that are kept on disk and may be sampled by several processes
(docs/official.md).
"""

import dataclasses
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.gts import ScoreOptions
from dd2core.pipeline import Pipeline, check_seed, load_pipeline
from dd2core.results.record import to_json
from dd2core.results.schema import SPLITS, TABLES, Measurement
from dd2core.store.files import (
    check_manifest,
    load_strict,
    read_tensors,
    write_atomic,
    write_json,
)
from dd2core.store.names import CONFIG, EVALUATE, MANIFEST, MODEL
from dd2core.tools.images import grid_image, png
from train.data.batches import evenly
from train.data.enough import FEWEST as FEWEST_HELD
from train.data.fashion import Data
from train.data.labels import load_data
from train.data.shards.encode import encode_all
from train.engine import distributed, loop
from train.engine.paths import run_folder
from train.engine.record.minutes import trained_on, training_minutes
from train.engine.record.provenance import digests, provenance
from train.measure import inception
from train.measure.agreement import agreement, posterior_floor
from train.measure.naming import names_of
from train.measure.quality import neighbours
from train.measure.quality.extractors import Extractors, load_extractors, numbers_of
from train.measure.quality.path_length import path_length
from train.measure.quality.split import choose, reference_name
from train.measure.reference import open_reference
from train.measure.sample import add_cost, batch_seed, reconstruct, sample_batch, sampling_of
from train.measure.stream import FEW, FEWEST, stream, to_npz
from train.settings.cli import ROOT, main
from train.settings.schema import Config, Evaluate

SAMPLERS = ("teacher", "one_step", "refine", "parallel", "skip_last", "euler", "dd1_two_steps",
            "tokenizer", "train_set")
FEATURES = ("classifier", "inception")
SHEET = 100  # images of the sample grid
SMALL = 32  # pixels of an image up to which the grid shows each of them as four


def model_folder(cfg: Config) -> Path:
    """The folder that is evaluated: `evaluate.model`, else what this run exported (to `export` or
    into its own folder), else the shipped one."""
    if cfg.evaluate.model:
        return Path(cfg.evaluate.model)
    own = [Path(cfg.export)] if cfg.export else []
    own.append(run_folder(cfg) / MODEL)
    shipped = ROOT / "assets" / cfg.name
    return next((folder for folder in own if (folder / CONFIG).is_file()), shipped)


def load_weights(pipe: Pipeline, path: Path) -> None:
    """Put other weights into the generator: of a run (sealed), or of a model folder.

    Raises:
        DD2Error: they are missing, damaged, or of another model.
    """
    shipped = (path.parent / MANIFEST).is_file()
    if shipped:
        check_manifest(path.parent, [path.name])
    load_strict(pipe.generator, read_tensors(path, sealed=not shipped), str(path))


def sample(pipe: Pipeline, cfg: Config, data: Data
           ) -> tuple[Tensor, Tensor, Tensor, Tensor, dict]:
    """Images uint8 (N, channels, H, W), labels (N,), which few of them the teacher looks at, the
    tokens (few, L) of these, and what it cost."""
    o = cfg.evaluate
    if o.sampler in ("tokenizer", "train_set"):
        return _floor(pipe, o, data)
    # Class frequencies are the test set's; with N = its size, exactly.
    labels = data.test_labels[evenly(data.test_labels, o.n)]
    images, tokens, cost = [], [], {}
    for i, y in enumerate(tqdm(labels.split(o.batch), desc=o.sampler, mininterval=2.0)):
        x, q, took = sample_batch(pipe, cfg, y, batch_seed(o.seed, i))
        images.append(x)
        tokens.append(q)
        add_cost(cost, took)
    few = evenly(labels, min(len(labels), FEW))
    return torch.cat(images), labels, few, torch.cat(tokens)[few], cost


def _floor(pipe: Pipeline, o, data: Data):
    if o.sampler == "train_set":
        images, labels = data.images, data.labels
    else:
        pick = evenly(data.test_labels, min(o.n, len(data.test_labels)))
        images, labels = data.test_images[pick], data.test_labels[pick]
    few = evenly(labels, min(len(labels), o.n, FEW))
    if o.sampler == "train_set":
        return images, labels, few, encode_all(pipe.teacher.tokenizer, images[few], pipe.device), {
            "passes": 0}
    tokens = encode_all(pipe.teacher.tokenizer, images, pipe.device)
    images, *_ = reconstruct(pipe.teacher, tokens)
    return images, labels, few, tokens[few], {"passes": 0}


@torch.no_grad()
def measure(cfg: Config, pipe: Pipeline, extractors: Extractors, data: Data
            ) -> tuple[Measurement, Tensor, np.ndarray | None]:
    """All numbers of one sampler against the held-out images of `data`, some of its images, and
    the sheet of nearest training images if it was asked for."""
    o = cfg.evaluate
    images, labels, few, tokens, cost = sample(pipe, cfg, data)
    numbers, nearest = numbers_of(images, labels, data, extractors), None
    if o.ppl:
        pairs = data.test_labels[evenly(data.test_labels, o.ppl)]
        numbers["path_length"] = path_length(pipe, extractors, pairs, o.seed, o.batch)
    if o.neighbours:
        some = images[evenly(labels, min(o.neighbours, len(images)))]
        found = neighbours.search(some, data, extractors.classifier, o.quantile)
        numbers["neighbours"] = found.numbers
        nearest = neighbours.sheet(some, data, found.found)
    result = _result(cfg, pipe, len(images), 10_000, numbers, tokens, labels[few], cost, {
        "reference": reference_name(data, o.split), "split": o.split})
    if o.sampler == "teacher":
        c = cfg.csd
        options = ScoreOptions(c.times, c.t_min, c.t_max, sampling_of(pipe, o), c.chunk,
                               weighting=c.weighting)
        floor = posterior_floor(pipe.teacher, tokens, labels[few], options)
        result = dataclasses.replace(result, fcs_floor=floor)
    return result, images[evenly(labels, min(len(labels), SHEET))], nearest


def _result(cfg: Config, pipe: Pipeline, n: int, enough: int, numbers: dict, tokens: Tensor,
            labels: Tensor, cost: dict, what: dict) -> Measurement:
    """The measurement from its parts; fewer than `enough` samples make an estimate."""
    o = cfg.evaluate
    sampling = sampling_of(pipe, o)
    batch = 256 if o.features == "classifier" else o.batch
    a = agreement(pipe.teacher, tokens, labels, sampling.cfg, batch)
    return Measurement(
        sampler=o.sampler, **names_of(o, sampling), n=n, estimate=n < enough, **numbers,
        teacher_nll=a.nll, token_entropy=a.entropy, **cost,
        start=o.start if o.sampler == "refine" else None, teacher_settings=sampling,
        training_minutes=training_minutes(cfg, pipe.model.folder),
        trained_on=trained_on(cfg, pipe.model.folder), seed=o.seed, **what,
        command="python -m train.evaluate " + shlex.join(sys.argv[1:]),
        provenance=provenance(pipe.device, o.seed, _weights(o, pipe)))


def _weights(o: Evaluate, pipe: Pipeline) -> dict[str, str]:
    """sha256 of all weights that take part."""
    own = [Path(o.weights)] if o.weights else []
    return digests(pipe.model.folder, *own) if pipe.model.folder else {}


@torch.no_grad()
def measure_inception(cfg: Config, pipe: Pipeline, path: Path
                      ) -> tuple[Measurement, Tensor] | None:
    """All numbers of one sampler by Inception, and its first images; None but on rank 0.

    The samples stay in `path` (.npy), or beside it as .npz.
    """
    o, size = cfg.evaluate, cfg.evaluate.resize or pipe.image_size
    if pipe.teacher.tokenizer.cfg.in_channels != 3:
        raise DD2Error("features=inception takes RGB pictures: use features=classifier for grey.")
    main = distributed.is_main()
    if main:  # before hours of sampling, so that a mistake shows at once
        network = inception.load_inception(o.inception, pipe.device)
        reference = open_reference(o.reference, size, network.fc.in_features, o.batch)
    samples = stream(pipe, cfg, path, size)
    distributed.leave()  # all together: measuring takes longer than the others would wait
    if not main:
        return None
    n = len(samples.labels)
    numbers = inception.compare(network, samples.read(o.batch), n, reference)
    few = samples.labels[: len(samples.tokens)]
    result = _result(cfg, pipe, n, 50_000, dataclasses.asdict(numbers), samples.tokens, few,
                     samples.cost, {"reference": reference.name,
                                    "extractor": f"{inception.NAME} of torch-fidelity"})
    images = next(samples.read(max(2, min(10, 1536 // size)) ** 2))
    if o.save_npz:
        to_npz(path)
    return result, images


def _check(o: Evaluate) -> None:
    """Raise DD2Error for settings that cannot be."""
    if o.sampler not in SAMPLERS:
        raise DD2Error(f"sampler={o.sampler} is unknown: use one of {', '.join(SAMPLERS)}.")
    if o.n < FEWEST_HELD or o.batch < 1:
        raise DD2Error(f"n={o.n} and batch={o.batch} must be at least {FEWEST_HELD} and 1.")
    check_seed(o.seed)
    if o.table not in (None, *TABLES):
        raise DD2Error(f"table={o.table} is unknown: use one of {', '.join(TABLES)}.")
    if o.features not in FEATURES:
        raise DD2Error(f"features={o.features} is unknown: use one of {', '.join(FEATURES)}.")
    if o.split not in SPLITS:
        raise DD2Error(f"split={o.split} is unknown: use {' or '.join(SPLITS)}.")
    if o.sampler == "dd1_two_steps" and not o.weights:
        raise DD2Error("sampler=dd1_two_steps samples a network that was trained for two steps: "
                       "give weights=RUN/dd1/generator.safetensors of train.dd1 with "
                       "dd1.second_share=0.5.")
    if o.ppl and o.sampler != "one_step":
        raise DD2Error("ppl= measures the one-step generator: add sampler=one_step.")
    if o.features == "inception":
        if o.ppl or o.neighbours or o.split != "test":
            raise DD2Error("ppl=, neighbours= and split= need features=classifier: leave them out, "
                           "or name another reference=.")
        if o.sampler == "train_set":
            raise DD2Error("sampler=train_set needs features=classifier: Inception's reference is "
                           "that floor.")
        if o.n < FEWEST or (o.resize is not None and o.resize < 1):
            raise DD2Error(f"n={o.n} must be at least {FEWEST} and resize={o.resize} at least 1.")


def run(cfg: Config) -> None:
    """Evaluate one sampler; write `evaluate/TAG.json` and `evaluate/TAG.png`, or the JSON alone
    into `results=`."""
    o = cfg.evaluate
    _check(o)
    device, folder = loop.setup(cfg), model_folder(cfg)
    if o.features == "classifier" and distributed.world() > 1:
        raise DD2Error("features=classifier is measured in one process: start without torchrun.")
    pipe = load_pipeline(str(folder), str(device))
    if o.weights:
        if pipe.generator is None:
            raise DD2Error(f"{folder} has no generator to load weights={o.weights} into: export "
                           "one first.")
        load_weights(pipe, Path(o.weights))
    out, tag = Path(o.results or run_folder(cfg) / EVALUATE), o.tag or o.sampler
    if cfg.dry_run:
        print(f"evaluate: {o.n} samples of {o.sampler} from {folder}; dry run, nothing written")
        return
    if o.features == "inception":
        measured = measure_inception(cfg, pipe, out / f"{tag}-images.npy")
        if measured is None:
            return
        (result, images), nearest = measured, None
        sheet = {"columns": int(len(images) ** 0.5), "zoom": 1}
    else:
        result, images, nearest = measure(cfg, pipe, load_extractors(folder, device), _data(o, cfg))
        sheet = {"columns": 10, "zoom": 2 if pipe.image_size <= SMALL else 1}
    write_json(out / f"{tag}.json", to_json(result))
    if nearest is not None:
        write_atomic(out / f"{tag}-neighbours.png", png(Image.fromarray(nearest)))
    if not o.results:
        grid = grid_image(images.permute(0, 2, 3, 1).numpy(), **sheet)
        write_atomic(out / f"{tag}.png", png(Image.fromarray(grid)))
    print(_line(result))


def _data(o: Evaluate, cfg: Config) -> Data:
    """What `split` compares with, and the training images where they are looked at."""
    few = o.sampler != "train_set" and not o.neighbours and o.split == "test"
    return choose(load_data(cfg, test_only=few), o.split)


def _line(m: Measurement) -> str:
    """What is printed of a measurement."""
    estimate = "estimate, " if m.estimate else ""
    if m.inception_score is not None:
        text = (f"FID {m.fd:.3f} ({estimate}N = {m.n}, against {m.reference}), Inception Score "
                f"{m.inception_score:.2f} ± {m.inception_score_std:.2f}, ")
        text += ("no precision and recall (the reference has statistics alone)"
                 if m.precision is None else f"precision {m.precision:.3f}, recall {m.recall:.3f}")
    else:
        text = (f"FD {m.fd:.3f} ({m.fd_percent:.2f}% of the total variance; {estimate}N = {m.n}), "
                f"precision {m.precision:.3f}, recall {m.recall:.3f}, accuracy {m.accuracy:.3f}")
    if m.judge is not None:
        text += (f"; judge: FD {m.judge.fd:.3f}, precision {m.judge.precision:.3f}, recall "
                 f"{m.judge.recall:.3f}, accuracy {m.judge.accuracy:.3f}")
    if m.path_length is not None:
        text += f"; path length {m.path_length.filtered:.0f} (N = {m.path_length.n})"
    if m.neighbours is not None:
        text += (f"; {m.neighbours.share:.3f} of {m.neighbours.n} nearer to a training image than "
                 f"the quantile {m.neighbours.quantile:g} of held-out ones")
    return (f"{m.sampler}: {text}, teacher's NLL {m.teacher_nll:.2f}, entropy "
            f"{m.token_entropy:.2f}, passes {m.passes}; settings {m.teacher_settings.keywords()}")


if __name__ == "__main__":
    main(run, "evaluate")
