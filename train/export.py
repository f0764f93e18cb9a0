"""Assemble a model folder from a run: `python -m train.export preset=fashion-llamagen`.

Writes runs/NAME/model, or `export=FOLDER`: networks, classifier, reference statistics, resolved
settings, training logs, whatever has been measured so far, and a model card. Stages that have not
been run yet are left out. Weights are stored in float16, and the reported numbers are measured on
what is stored. `export_hub=owner/name` also uploads the folder, which that id then loads again.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from dd2core.store.files import (
    read_json,
    read_tensors,
    write_atomic,
    write_json,
    write_manifest,
    write_tensors,
)
from dd2core.store.folder import Model, save_folder
from dd2core.store.hub import upload
from dd2core.tools.images import to_float
from train.data.source import load_data
from train.data.tokens import class_names
from train.engine import base, loop
from train.engine.assemble import load_score_model, load_teacher
from train.engine.run_folder import run_folder
from train.measure.classifier import Classifier
from train.publish.card import write_card
from train.settings.cli import main
from train.settings.schema import Config
from train.settings.stages import distilled

STAGES = ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "tune")


def export(cfg: Config, out: Path) -> Path:
    """Write the model folder `out` and return it."""
    run, device = run_folder(cfg), torch.device("cpu")
    teacher = load_teacher(cfg, device)
    scores = {}
    for part in ("generator", "guidance"):
        path = run / distilled(cfg) / f"{part}.safetensors"
        scores[part] = load_score_model(cfg, teacher, path, False) if path.exists() else None
    model = Model(cfg.name, cfg.family, class_names(cfg), cfg.sampling, teacher,
                  scores["generator"], scores["guidance"], cfg.image_size)
    extra = _classifier(cfg, run, out, len(model.class_names))
    for stage in STAGES:
        _copy_log(run / stage, out / "logs", stage)
    _copy_results(run, out / "results")
    save_folder(out, model, torch.float16, extra | _source(cfg))
    write_card(cfg, out)
    return out


def _source(cfg: Config) -> dict:
    """Where a converted base comes from, as its config.json tells."""
    known = read_json(base.folder(cfg) / "config.json").get("source") if cfg.base else None
    return {"source": known} if known else {}


def _copy_results(run: Path, out: Path) -> None:
    files = [*(run / "evaluate").glob("*.json"), *(run / "evaluate").glob("*.png"),
             *run.glob("benchmark.json")]
    for path in files:
        write_atomic(out / path.name, path.read_bytes())


def _classifier(cfg: Config, run: Path, out: Path, classes: int) -> dict:
    """Store the run's feature extractor, else the base's; its entry of config.json."""
    path = run / "classifier" / "classifier.safetensors"
    if path.exists():
        sizes = {"image_channels": cfg.channels, "width": cfg.classifier.width,
                 "features": cfg.classifier.features, "num_classes": classes}
        model = Classifier(**sizes)
        model.load_state_dict(read_tensors(path))
    else:
        found = base.classifier(cfg) if cfg.base else None
        if found is None:
            return {}
        model, sizes = found
    write_tensors(out / "classifier.safetensors", model.state_dict(), torch.float16)
    _reference(cfg, model.eval(), out / "reference.npz")
    return {"classifier": sizes}


@torch.no_grad()
def _reference(cfg: Config, model: Classifier, path: Path) -> None:
    images = load_data(cfg, test_only=True).test_images
    x = torch.cat([model.features(to_float(a)) for a in images.split(256)]).double().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, mu=x.mean(0), sigma=np.cov(x, rowvar=False), n=len(x))


def _copy_log(stage: Path, logs: Path, name: str) -> None:
    if not (stage / "config.yaml").exists():
        return
    logs.mkdir(parents=True, exist_ok=True)
    if (stage / "log.jsonl").exists():
        write_atomic(logs / f"{name}.jsonl", (stage / "log.jsonl").read_bytes())
    shutil.copy(stage / "config.yaml", logs / f"{name}.yaml")
    result = stage / "result.json"
    if result.exists():
        write_json(logs / f"{name}.json", json.loads(result.read_text()))


def run(cfg: Config) -> None:
    """Export to `export=`, else to runs/NAME/model."""
    loop.setup(cfg)
    if cfg.dry_run:
        print("export: dry run, nothing written")
        return
    out = Path(cfg.export) if cfg.export else run_folder(cfg) / "model"
    export(cfg, out)
    write_manifest(out)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"export: {out}, {size / 2**20:.1f} MiB")
    if cfg.export_hub:
        print(f"export: {upload(out, cfg.export_hub, f'{cfg.name}: exported')}")


if __name__ == "__main__":
    main(run)
