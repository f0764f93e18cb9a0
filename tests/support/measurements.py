"""Measurements with made-up numbers, as files beside a model."""

import json
from pathlib import Path

NUMBERS = {
    "sampler": "one_step", "n": 10_000, "estimate": False, "fd": 4.0, "fd_percent": 3.0,
    "precision": 0.9, "recall": 0.7, "accuracy": 0.9, "teacher_nll": 5.0, "token_entropy": 6.0,
    "passes": 1, "teacher_settings": {"cfg": 1.25, "temperature": 1.0, "top_k": 0, "top_p": 1.0},
    "training_minutes": None, "seed": 0, "reference": "10000 test images",
    "extractor": "penultimate features of classifier.safetensors",
    "command": "python -m train.evaluate", "split": "test",
}
INCEPTION = {"accuracy": None, "inception_score": 40.0, "inception_score_std": 1.0}


def unnamed(**more) -> dict:
    """What a file held before measurements said what they are; None leaves a field out."""
    return {k: v for k, v in {**NUMBERS, **more}.items()
            if v is not None or k in ("training_minutes", "precision", "recall")}


def named(tag: str, table: str = "quality", **more) -> dict:
    """What a file holds now."""
    numbers = unnamed(**more)
    return {"method": numbers["sampler"], "note": "", "table": table, "tag": tag, **numbers}


def write(folder: Path, values: dict, stem: str | None = None) -> Path:
    """Write a measurement into `folder`/results, beside a config.json with guidance 1.25."""
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    if not config.exists():
        config.write_text(json.dumps({"sampling": NUMBERS["teacher_settings"]}))
    path = results / f"{stem or values['tag']}.json"
    path.write_text(json.dumps(values))
    return path


SPEED = {
    "preset": "p", "device": "CPU", "torch": "2", "dtype": "float32",
    "teacher_settings": NUMBERS["teacher_settings"], "repeats": 3,
    "passes": {"teacher": 49, "one_step": 1},
    "flops_per_image": {"teacher": 3e6, "one_step": 2_000_000, "decode": 1e6},
    "rows": [{"batch": 1, "ms": {"teacher": 90.0, "one_step": 5.0, "decode": 10.0},
              "ratio": 18.0, "ratio_with_decoding": 6.7}],
    "command": "python -m train.benchmark",
}
