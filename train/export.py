"""Assemble a model folder from a run: `python -m train.export preset=fashion-llamagen`.

Writes runs/NAME/model, or `export=FOLDER`: networks, classifier, reference statistics, resolved
settings, training logs, whatever has been measured so far, and a model card. Stages that have not
been run yet are left out. Weights are stored in float16, and the reported numbers are measured on
what is stored. `export_hub=owner/name` also uploads the folder, which that id then loads again.

`onnx=true` writes the model's graphs for onnxruntime instead (`dd2core.graphs`): of the run's
model, else of the shipped preset, or of `onnx_of=` (a model folder, a shipped preset or a hub id);
into runs/NAME/onnx, or `export=FOLDER`.
"""

from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

from dd2core.errors import DD2Error
from dd2core.graphs.export import write_graphs
from dd2core.results.training import TRAINED_ON
from dd2core.store import names
from dd2core.store.atomic import atomic
from dd2core.store.files import (
    load_strict,
    read_json,
    read_tensors,
    write_atomic,
    write_json,
    write_manifest,
    write_tensors,
)
from dd2core.store.folder import Model, load_folder, resolve, save_folder
from dd2core.store.hub import upload
from dd2core.tools.images import to_float
from train.data.enough import FEWEST
from train.data.source import load_data
from train.data.tokens import class_names
from train.engine import base, loop
from train.engine.assemble import load_generator, load_score_model, load_teacher
from train.engine.origin import check_made_of_present
from train.engine.paths import run_folder
from train.engine.record.provenance import machines
from train.measure.classifier import Classifier, find_judge, sizes_of
from train.publish.card import write_card
from train.settings.cli import main
from train.settings.schema import Config
from train.settings.stages import distilled


def export(cfg: Config, out: Path) -> Path:
    """Write the model folder `out` and return it."""
    run, device = run_folder(cfg), torch.device("cpu")
    for stage in ("teacher", distilled(cfg)):
        check_made_of_present(cfg, run / stage)
    teacher = load_teacher(cfg, device)
    scores = {}
    for part in ("generator", "guidance"):
        path = run / distilled(cfg) / names.weights(part)
        load = load_generator if part == "generator" else load_score_model
        scores[part] = load(cfg, teacher, path, False) if path.exists() else None
    model = Model(cfg.name, cfg.family, class_names(cfg), cfg.sampling, teacher,
                  scores["generator"], scores["guidance"], cfg.image_size)
    extra = _classifier(cfg, run, out, len(model.class_names))
    for stage in names.STAGES:
        _copy_log(run / (cfg.warm.name if stage == "warm" else stage), out / names.LOGS, stage)
    _copy_results(run, out / names.RESULTS)
    save_folder(out, model, torch.float16, extra | _source(cfg))
    write_card(cfg, out)
    return out


def _source(cfg: Config) -> dict:
    """Where a converted base comes from, as its config.json tells."""
    known = read_json(base.folder(cfg) / names.CONFIG).get("source") if cfg.base else None
    return {"source": known} if known else {}


def _copy_results(run: Path, out: Path) -> None:
    measured = run / names.EVALUATE
    files = [*measured.glob("*.json"), *measured.glob("*.png"), *run.glob(names.BENCHMARK)]
    for path in files:
        write_atomic(out / path.name, path.read_bytes())


def _classifier(cfg: Config, run: Path, out: Path, classes: int) -> dict:
    """Store the run's feature extractor, else the base's; its entry of config.json."""
    path = run / "classifier" / names.weights(names.CLASSIFIER)
    if path.exists():
        sizes = sizes_of(cfg, classes)
        model = Classifier(**sizes)
        load_strict(model, read_tensors(path, sealed=True), str(path))
    else:
        known = base.classifier(cfg) if cfg.base else None
        if known is None:
            return {}
        model, sizes = known
    write_tensors(out / names.weights(names.CLASSIFIER), model.state_dict(), torch.float16)
    images = load_data(cfg, test_only=True).test_images
    _reference(images, model.eval(), out / names.REFERENCE)
    if (run / names.JUDGE / names.RESULT).exists():
        write_judge(run / names.JUDGE, out, images)
    elif cfg.base:
        _copy_judge(base.folder(cfg), out, images)
    return {"classifier": sizes}


def write_judge(stage: Path, out: Path, images: torch.Tensor) -> None:
    """Put the second extractor of a run, its folder `stage`, into the model folder `out`; the
    caller writes the manifest.

    Args:
        stage (Path): what `train.classifier classifier.name=judge` has written.
        out (Path): the model folder.
        images (Tensor): held-out, uint8 (N, channels, H, W), of which the reference is made.
    """
    weights = read_tensors(stage / names.weights(names.JUDGE), sealed=True)
    trained = OmegaConf.load(stage / names.SETTINGS)
    sizes = sizes_of(trained, len(weights["classes.bias"]))
    model = Classifier(**sizes)
    load_strict(model, weights, str(stage))
    write_tensors(out / names.weights(names.JUDGE), weights, torch.float16)
    _reference(images, model.eval(), out / names.JUDGE_REFERENCE)
    write_json(out / names.JUDGE_SETTINGS, {
        "classifier": sizes, **read_json(stage / names.RESULT), "seed": trained.seed,
        "settings": OmegaConf.to_container(trained.classifier)})


def _copy_judge(source: Path, out: Path, images: torch.Tensor) -> None:
    known = find_judge(source)
    if known is not None:
        write_tensors(out / names.weights(names.JUDGE), known[0].state_dict(), torch.float16)
        write_json(out / names.JUDGE_SETTINGS, read_json(source / names.JUDGE_SETTINGS))
        _reference(images, known[0], out / names.JUDGE_REFERENCE)


@torch.no_grad()
def _reference(images: torch.Tensor, model: Classifier, path: Path) -> None:
    x = torch.cat([model.features(to_float(a)) for a in images.split(256)]).double().numpy()
    if len(x) < FEWEST or not np.isfinite(x).all():
        raise DD2Error(f"The features of the {len(x)} held-out images make no reference: at least "
                       f"{FEWEST} finite ones are needed, give more pictures or train the "
                       "classifier anew.")
    with atomic(path) as file:
        np.savez(file, mu=x.mean(0), sigma=np.cov(x, rowvar=False), n=len(x))


def _copy_log(stage: Path, logs: Path, name: str) -> None:
    if not (stage / names.SETTINGS).exists():
        return
    for file, ending in ((names.LOG, "jsonl"), (names.SETTINGS, "yaml")):
        if (stage / file).exists():
            write_atomic(logs / f"{name}.{ending}", (stage / file).read_bytes())
    result = read_json(stage / names.RESULT) if (stage / names.RESULT).exists() else {}
    if (machine := machines(stage)) is not None:
        result[TRAINED_ON] = machine
    if result:
        write_json(logs / f"{name}.json", result)


def export_graphs(cfg: Config) -> Path:
    """Write the ONNX graphs of a finished model, and return their folder."""
    own = run_folder(cfg) / names.MODEL
    name = cfg.onnx_of or (str(own) if (own / names.CONFIG).is_file() else cfg.name)
    out = Path(cfg.export) if cfg.export else run_folder(cfg) / "onnx"
    write_graphs(out, load_folder(resolve(name), torch.device("cpu")))
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"export: {out}, graphs of {name}, {size / 2**20:.1f} MiB")
    return out


def run(cfg: Config) -> None:
    """Export to `export=`, else to runs/NAME/model."""
    loop.setup(cfg)
    if cfg.dry_run:
        print("export: dry run, nothing written")
        return
    if cfg.onnx:
        export_graphs(cfg)
        return
    out = Path(cfg.export) if cfg.export else run_folder(cfg) / names.MODEL
    export(cfg, out)
    write_manifest(out)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"export: {out}, {size / 2**20:.1f} MiB")
    if cfg.export_hub:
        print(f"export: {upload(out, cfg.export_hub, f'{cfg.name}: exported')}")


if __name__ == "__main__":
    main(run)
