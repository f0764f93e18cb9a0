"""The jobs of all training stages at toy size, and what a few of their steps compute."""

import copy
import functools
import hashlib
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

import dd2core.score
import train.csd
import train.data.shards.samples
import train.dd1
import train.gts
import train.tokenizers.images
from dd2core.families.llamagen.vector_input import with_mlp_input
from dd2core.store.names import weights
from tests.support import tiny, tiny_var
from tests.support.train_helpers import config
from train.adapt import AdaptJob, FitJob, input_sizes
from train.classifier import ClassifierJob
from train.csd import CSDJob
from train.data.shards.samples import distillation_tokens, load_samples
from train.data.source import load_data
from train.data.tokens import TokenData, load_tokens
from train.dd1 import DD1Job, load_pairs
from train.engine import recompute
from train.engine.assemble import new_score_model, new_tokenizer, new_transformer
from train.engine.loop import seeded_step
from train.engine.paths import run_folder
from train.gts import GTSJob
from train.settings.schema import Config
from train.teacher import TeacherJob
from train.tokenizer import TokenizerJob

CPU = torch.device("cpu")
LENGTH = {"llamagen": 16, "var": 21}  # tokens of the toy teachers
LABELS = torch.arange(24) % 3


@functools.cache
def _base() -> Config:
    words = [f"{stage}.{word}" for word in ("batch=4", "steps=6", "warmup=2") for stage in (
        "tokenizer", "teacher", "adapt", "gts", "csd", "tune", "dd1", "warm", "classifier")]
    return config(*words, "adapt_fit.steps=6", "adapt_fit.warmup=2", "adapt.check_every=1",
                  "csd.start=gts", "csd.guidance_first=0", "csd.average=null", "csd.grid_every=0",
                  "csd.pair_share=0", "teacher.depth=1", "teacher.input_hidden=24",
                  "tokenizer.patch_nums=[1,2,4]", "tokenizer.disc_width=8", "samples.n=10",
                  "samples.batch=8", "tune.start=gts")


def toy(changes: dict[str, Any], out: Path) -> Config:
    """The toy settings, with changes by dotted name, in the folder `out`."""
    cfg = copy.deepcopy(_base())
    cfg.out = str(out)
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        setattr(getattr(cfg, section) if section else cfg, name, value)
    return cfg


@functools.cache
def teacher(family: str):
    """The toy teacher of a family, 3 classes, 32 codes."""
    torch.manual_seed(0)
    return {"llamagen": tiny.teacher, "var": tiny_var.teacher}[family](depth=1)


def tokens(cfg: Config, seed: int = 0) -> TokenData:
    """Random sequences of the length that the family's toy teacher has."""
    x = torch.randint(32, (24, LENGTH[cfg.family]), generator=torch.Generator().manual_seed(seed))
    return TokenData(x, LABELS, x[:6], LABELS[:6])


def filled(cfg: Config, source, path: str, bf16: bool) -> nn.Module:
    """A score model in place of that of a file; its head is not zero, another file has another."""
    model = new_score_model(cfg, source, bf16)
    g = torch.Generator().manual_seed(zlib.crc32(path.encode()))
    with torch.no_grad():
        for layer in (model.head.modulation, model.head.out):
            layer.weight.normal_(0, 0.2, generator=g)
    return model


def job(stage: str, cfg: Config):
    """The job of a stage; `head` is that of csd, in which all of a head is at work."""
    source, section = teacher(cfg.family), "csd" if stage == "head" else stage
    opts = getattr(cfg, section)
    if stage in ("tokenizer", "classifier"):
        data = pictures(cfg) if stage == "classifier" else train.tokenizers.images.Images(cfg)
        torch.manual_seed(0)  # reading draws numbers, the first time
        return {"tokenizer": TokenizerJob, "classifier": ClassifierJob}[stage](cfg, data, CPU)
    if stage in ("teacher", "adapt", "adapt_fit"):
        vq = new_tokenizer(cfg)
        network = new_transformer(cfg, vq, 3)
        if stage == "teacher":
            return TeacherJob(cfg, network, tokens(cfg), CPU)
        mlp = with_mlp_input(network, *input_sizes(cfg))
        if stage == "adapt_fit":
            return FitJob(cfg, mlp, network.backbone.table())
        return AdaptJob(cfg, mlp, tokens(cfg), CPU, target=0.0)
    data = distillation_tokens(cfg, source, CPU)
    if stage == "gts":
        return GTSJob(cfg, source, data)
    if section in ("csd", "tune"):
        return CSDJob(cfg, source, data, opts, run_folder(cfg) / stage)
    pairs, _ = load_pairs(cfg, source, data, opts)
    torch.manual_seed(0)  # making them draws numbers, the first time
    return DD1Job(cfg, source, pairs, opts)


def pictures(cfg: Config):
    """The pictures of the settings, read once."""
    return _pictures(cfg.image_size, cfg.channels, cfg.tokens.transform)


@functools.cache
def _pictures(size: int, channels: int, transform: str):
    return load_data(config(f"image_size={size}", f"channels={channels}",
                            f"tokens.transform={transform}"))


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Replaces what reads files of stages before, and counts backward passes and recomputations."""
    counts = {"backward": 0, "again": 0}

    def counting(key, call):
        def counter(*a, **k):
            counts[key] += 1
            return call(*a, **k)
        return counter

    def of_file(cfg, source, path, bf16):
        return filled(cfg, source, path.relative_to(run_folder(cfg)).as_posix(), bf16)

    samples = train.data.shards.samples
    with ExitStack() as stack:
        for place, name, new in (
            (train.csd, "load_score_model", of_file), (train.csd, "load_generator", of_file),
            (train.dd1, "load_generator", of_file),
            (train.gts, "new_score_model", lambda cfg, t, bf16: filled(cfg, t, "gts", bf16)),
            (samples, "load_tokens", lambda cfg, *a: tokens(cfg)),
            (samples, "load_samples", lambda cfg, *a: tokens(cfg, 1)),
            (train.tokenizers.images, "load_data", pictures),
            (torch.Tensor, "backward", counting("backward", torch.Tensor.backward)),
            (recompute, "checkpoint", counting("again", recompute.checkpoint)),
            (dd2core.score, "checkpoint", counting("again", dd2core.score.checkpoint)),
        ):
            stack.enter_context(patch.object(place, name, new))
        yield counts


def computed(stage: str, cfg: Config, steps: int = 2) -> dict[str, Any]:
    """What the first steps of a stage compute: their numbers, learning rates, weights, files and
    passes."""
    section, log = "csd" if stage == "head" else stage, []
    with counted() as counts:
        torch.manual_seed(0)
        made = job(stage, cfg)
        opts = made.opts
        if opts.grid_every:
            shutil.rmtree(made.folder, ignore_errors=True)  # of another case
            made.folder.mkdir(parents=True)
        for i in range(steps):
            if getattr(made, "ended", False):
                break
            numbers = seeded_step(cfg, made, i, section)
            rates = {k: [g["lr"] for g in o.param_groups] for k, o in made.optimizers.items()}
            log.append((numbers, rates))
            if opts.grid_every and (i + 1) % opts.grid_every == 0:
                made.snapshot(i + 1)
        files = kept(made) if opts.grid_every else {}
    return {"steps": log, "files": files, "counts": counts,
            "weights": {k: digest(m.state_dict()) for k, m in made.networks.items()}}


def kept(made) -> dict[str, str]:
    """The files of a finished job, by name: their digests."""
    made.finish(made.folder)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in made.folder.iterdir()}


def digest(state: dict[str, torch.Tensor]) -> str:
    """Of names, shapes and every bit of some tensors."""
    found = hashlib.sha256()
    for name, a in state.items():
        found.update(f"{name} {tuple(a.shape)}".encode())
        found.update(a.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def sequences(section: str, cfg: Config) -> dict[str, Any]:
    """What the sections samples and tokens make: sequences, and the files that they are in."""
    with tempfile.TemporaryDirectory() as folder:
        cfg.out = folder
        for part in ("adapt", "teacher", "tokenizer"):  # of which the digest is taken
            path = Path(folder) / part / weights("teacher" if part == "adapt" else part)
            path.parent.mkdir()
            path.write_bytes(b"toy")
        torch.manual_seed(0)
        made = load_samples(cfg, teacher(cfg.family)) if section == "samples" else load_tokens(
            cfg, new_tokenizer(cfg), CPU)
        files = sorted(p.name for p in (Path(folder) / section).rglob("*-*.safetensors"))
        return {"files": files, **{
            name: digest({name: getattr(made, name)[:]}) for name in (
                "tokens", "labels", "test_tokens", "test_labels")}}
