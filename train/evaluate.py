"""Measure a sampler: `python -m train.evaluate preset=fashion-llamagen sampler=one_step n=10000`.

Prints FD, precision, recall, class accuracy, the teacher's NLL of the tokens, their entropy and the
seconds, with N, the extractor and the teacher's settings; writes them as JSON and a sample grid as
PNG into the run folder. Samplers: teacher, one_step, refine, parallel; the floors: tokenizer
(reconstructions of the test set) and train_set.
"""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dd2core.baselines import parallel_sample
from dd2core.checkpoint import load_strict, read_json, read_tensors, write_json
from dd2core.errors import DD2Error
from dd2core.images import grid_image
from dd2core.pipeline import Pipeline, load_pipeline
from dd2core.sampling import uniforms
from dd2core.trainer import ScoreOptions
from train import loop
from train.base import load_data
from train.build import encode_all
from train.config import ROOT, Config, distilled, main, run_folder
from train.data import Data, to_uint8
from train.features import Classifier
from train.metrics import agreement, fidelity, posterior_floor

SAMPLERS = ("teacher", "one_step", "refine", "parallel", "tokenizer", "train_set")


def model_folder(cfg: Config) -> Path:
    """The folder that is evaluated: `evaluate.model`, else the run's, else the shipped one."""
    if cfg.evaluate.model:
        return Path(cfg.evaluate.model)
    own = run_folder(cfg) / "model"
    return own if (own / "config.json").is_file() else ROOT / "assets" / cfg.name


def load_classifier(folder: Path, device: torch.device) -> Classifier:
    """The feature extractor of a model folder."""
    config = read_json(folder / "config.json").get("classifier")
    if config is None:
        raise DD2Error(f"{folder} has no classifier: run the stage classifier, then export.")
    model = Classifier(**config)
    path = folder / "classifier.safetensors"
    load_strict(model, read_tensors(path), str(path))
    return model.requires_grad_(False).eval().to(device)


def sample(pipe: Pipeline, cfg: Config, data: Data) -> tuple[Tensor, Tensor, Tensor, dict]:
    """Images uint8 (N, channels, H, W), tokens (N, L), labels (N,) and what it cost."""
    o, t = cfg.evaluate, pipe.teacher
    if o.sampler in ("tokenizer", "train_set"):
        return _floor(pipe, o, data)
    # Class frequencies are the test set's; with N = its size, exactly.
    labels = data.test_labels[torch.arange(o.n) % len(data.test_labels)]
    settings = {"cfg": o.cfg, "temperature": o.temperature, "top_k": o.top_k, "top_p": o.top_p}
    images, tokens, cost = [], [], {"seconds": 0.0, "decode_seconds": 0.0}
    bar = tqdm(labels.split(o.batch), desc=o.sampler, mininterval=2.0)
    for i, y in enumerate(bar):
        seed = o.seed + i
        if o.sampler == "teacher":
            s = pipe.sample_teacher(y, seed, **settings)
        elif o.sampler == "refine":
            s = pipe.refine(y, seed, o.start, **settings)
        elif o.sampler == "one_step":
            s = pipe.sample_one_step(y, seed)
        else:
            u = uniforms(len(y), t.num_tokens, seed)
            cfg_scale = pipe.sampling.cfg if o.cfg is None else o.cfg
            tokens.append(parallel_sample(t, y.to(t.device), u, cfg_scale, o.temperature, o.top_k,
                                          o.top_p).cpu())
            images.append(to_uint8(_decode(t, tokens[-1])))
            continue
        images.append(torch.from_numpy(s.images).permute(0, 3, 1, 2))
        tokens.append(s.tokens.cpu())
        cost["seconds"] += s.seconds
        cost["decode_seconds"] += s.decode_seconds
        cost["passes"] = s.passes
    if o.sampler == "parallel":
        cost = {"passes": 1}
    return torch.cat(images), torch.cat(tokens), labels, cost


@torch.no_grad()
def _decode(teacher, tokens: Tensor) -> Tensor:
    return torch.cat([teacher.decode(x.to(teacher.device)).cpu() for x in tokens.split(256)])


def _floor(pipe: Pipeline, o, data: Data):
    if o.sampler == "train_set":
        images, labels = data.images, data.labels
    else:
        images, labels = data.test_images[: o.n], data.test_labels[: o.n]
    tokens = encode_all(pipe.teacher.tokenizer, images[: o.n], pipe.device)
    if o.sampler == "tokenizer":
        images = to_uint8(_decode(pipe.teacher, tokens))
    return images, tokens, labels, {"passes": 0}


def training_minutes(cfg: Config) -> float | None:
    """Minutes that training the evaluated generator took, by the logs: GTS, DD1's pairs, the warm
    start, CSD up to the evaluated step or all of it, tuning. None if the logs are not in the run
    folder."""
    o, run = cfg.evaluate, run_folder(cfg)
    if o.sampler != "one_step":
        return None
    weights = Path(o.weights) if o.weights else run / distilled(cfg) / "generator.safetensors"
    step = weights.stem.rpartition("-")[2]
    logs, stage = [run / "gts", weights.parent], weights.parent.name
    if stage == "tune":
        logs.insert(1, run / "csd")
    if stage in ("csd", "tune") and cfg.csd.start == "warm":
        logs.insert(1, run / cfg.warm.name)
    seconds = 0.0
    for folder in logs:
        log, last = folder / "log.jsonl", folder == weights.parent and step.isdigit()
        if not log.exists():
            return None
        rows = map(json.loads, log.read_text().splitlines())
        seconds += max((r["seconds"] for r in rows if not last or r["step"] <= int(step)),
                       default=0.0)
        result = folder / "result.json"
        seconds += read_json(result).get("pair_seconds", 0.0) if result.exists() else 0.0
    return seconds / 60


@torch.no_grad()
def measure(cfg: Config, pipe: Pipeline, classifier: Classifier, data: Data) -> tuple[dict, Tensor]:
    """All numbers of one sampler, and its images."""
    o = cfg.evaluate
    images, tokens, labels, cost = sample(pipe, cfg, data)
    f = fidelity(images, data.test_images, classifier)
    device = pipe.device
    right = sum((classifier(x.to(device).float() / 127.5 - 1).argmax(-1).cpu() == y).sum().item()
                for x, y in zip(images.split(256), labels.split(256), strict=True))
    scale = pipe.sampling.cfg if o.cfg is None else o.cfg
    few = slice(0, min(len(tokens), 2000))
    a = agreement(pipe.teacher, tokens[few], labels[few], scale, 256)
    result = {
        "sampler": o.sampler, "n": len(images), "estimate": len(images) < 10_000,
        **dataclasses.asdict(f), "accuracy": right / len(images), "teacher_nll": a.nll,
        "token_entropy": a.entropy, **cost,
        "teacher_settings": {"cfg": scale, "temperature": o.temperature, "top_k": o.top_k,
                             "top_p": o.top_p},
        "training_minutes": training_minutes(cfg), "seed": o.seed,
        "reference": f"{len(data.test_images)} test images",
        "extractor": "penultimate features of classifier.safetensors",
        "command": "python -m train.evaluate " + shlex.join(sys.argv[1:]),
    }
    if o.sampler == "refine":
        result["start"] = o.start
    if o.sampler == "teacher":
        options = ScoreOptions(cfg.csd.times, cfg.csd.t_min, cfg.csd.t_max)
        result["fcs_floor"] = posterior_floor(pipe.teacher, tokens[few], labels[few], scale,
                                              options)
    return result, images


def run(cfg: Config) -> None:
    """Evaluate one sampler; write `evaluate/TAG.json` and `evaluate/TAG.png`."""
    o = cfg.evaluate
    if o.sampler not in SAMPLERS:
        raise DD2Error(f"sampler={o.sampler} is unknown: use one of {', '.join(SAMPLERS)}.")
    if o.n < 2 or o.batch < 1:
        raise DD2Error(f"n={o.n} and batch={o.batch} must be at least 2 and 1.")
    device, folder = loop.setup(cfg), model_folder(cfg)
    pipe = load_pipeline(str(folder), str(device))
    if o.weights:
        load_strict(pipe.generator, read_tensors(o.weights), o.weights)
    result, images = measure(cfg, pipe, load_classifier(folder, device),
                             load_data(cfg, test_only=o.sampler != "train_set"))
    out = run_folder(cfg) / "evaluate"
    tag = o.tag or o.sampler
    write_json(out / f"{tag}.json", result)
    first = images[:100].permute(0, 2, 3, 1).numpy()
    Image.fromarray(grid_image(first, columns=10, zoom=2)).save(out / f"{tag}.png")
    what = "estimate, " if result["estimate"] else ""
    print(f"{o.sampler}: FD {result['fd']:.3f} ({result['fd_percent']:.2f}% of the total variance; "
          f"{what}N = {result['n']}), precision {result['precision']:.3f}, recall "
          f"{result['recall']:.3f}, accuracy {result['accuracy']:.3f}, teacher's NLL "
          f"{result['teacher_nll']:.2f}, entropy {result['token_entropy']:.2f}, "
          f"passes {result['passes']}; settings {result['teacher_settings']}")


if __name__ == "__main__":
    main(run, "evaluate")
