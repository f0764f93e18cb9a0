"""Token sequences that the teacher draws (method §4), and which tokens the distillation reads.

Sample i is of class i mod classes, and depends on the seed, i and its label alone: not on how many
there are, on the processes, or (but for the rounding of products of other sizes) on the batch.
"""

import json
import time
from collections.abc import Iterator

import torch
from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.noise import stream_seed
from dd2core.results.training import read_log
from dd2core.store import names
from dd2core.store.atomic import write_atomic, written
from dd2core.store.files import read_json, sha256, write_json
from dd2core.teacher import Teacher
from train.data.shards.sets import Rows, Shard, ShardSet, from_main
from train.data.tokens import TokenData, load_tokens
from train.engine import base
from train.engine.distributed import is_main, world
from train.engine.paths import run_folder
from train.settings.schema import Config

HELD_OUT = 2000  # samples that are held out, or a tenth if that is less


def distillation_tokens(cfg: Config, teacher: Teacher, device: torch.device) -> TokenData:
    """What gts, warm, csd and dd1 learn from: samples of the teacher, or the data (`gts.data`)."""
    if cfg.gts.data == "samples":
        return load_samples(cfg, teacher)
    return load_tokens(cfg, teacher.tokenizer, device)


def load_samples(cfg: Config, teacher: Teacher) -> TokenData:
    """The teacher's samples; those that are not there yet are drawn, by all processes.

    The last tenth, at most 2,000, is held out.

    Raises:
        DD2Error: they cannot be written, or there are too few.
    """
    o, codes = cfg.samples, teacher.tokenizer.cfg.num_codes
    if o.n < 2:
        raise DD2Error(f"samples.n={o.n} must be at least 2: one of them is held out.")
    held = min(HELD_OUT, max(1, o.n // 10))
    if cfg.dry_run:
        few = min(o.n, 4096)
        x = torch.randint(codes, (few, teacher.num_tokens))
        y = torch.arange(few) % teacher.num_classes
        return TokenData(x, y, x[:256], y[:256])
    found = sample_set(cfg, teacher)
    if not from_main(found.complete):
        found.fill(Drawing(cfg, teacher, found), codes, cfg.timeout)
    from_main(lambda: _point_to(cfg, found))
    tokens, labels = found.read("samples")
    first = o.n - held
    return TokenData(tokens.part(0, first), labels[:first], tokens.part(first, o.n),
                     labels[first:])


def sample_set(cfg: Config, teacher: Teacher) -> ShardSet:
    """The files of the samples that the settings name."""
    o = cfg.samples
    plan = {
        "seed": cfg.seed, "sampling": o.sampling.keywords(), "bf16": o.bf16,
        "classes": teacher.num_classes, "length": teacher.num_tokens,
        **from_main(lambda: {"teacher_sha256": sha256(base.teacher_file(cfg)),
                             "tokenizer_sha256": sha256(base.tokenizer_file(cfg))}),
    }
    return ShardSet(run_folder(cfg) / names.SAMPLES, plan, o.per_file, {"samples": o.n})


def _point_to(cfg: Config, found: ShardSet) -> None:
    """`source.json`, which says what the samples in use are made of."""
    source = {**found.plan, "n": cfg.samples.n, "folder": found.folder.name}
    path = run_folder(cfg) / names.SAMPLES_ORIGIN
    if not path.is_file() or read_json(path) != source:
        write_json(path, source)


def sample_noise(cfg: Config, shard: Shard, length: int) -> Tensor:
    """The uniform numbers (n, L) that decide the samples of a shard."""
    seeds = (stream_seed(cfg.seed, "samples", i) for i in range(shard.first, shard.stop))
    return torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(s))
                        for s in seeds])


class Drawing:
    """Draws the samples of shards, and logs how long it has taken, over all runs."""

    def __init__(self, cfg: Config, teacher: Teacher, found: ShardSet):
        self.cfg, self.teacher, self.found = cfg, teacher, found
        self.folder = found.folder.parent
        self.log_file = self.folder / names.LOG

    def __call__(self, shards: list[Shard]) -> Iterator[tuple[Shard, Rows]]:
        """The shards with their samples."""
        main, since = is_main(), time.perf_counter()
        before = self._begin() if main else 0.0
        done = len(self.found.shards) - world() * len(shards)
        left = world() * sum(s.stop - s.first for s in shards)
        with tqdm(total=left, desc=f"{self.cfg.name} samples", mininterval=2.0,
                  dynamic_ncols=True, disable=not main) as bar:
            for k, shard in enumerate(shards, 1):
                yield shard, self._draw(shard, bar)
                if main:  # the file is written
                    self._log(min(done + k * world(), len(self.found.shards)),
                              before + time.perf_counter() - since)

    def _draw(self, shard: Shard, bar: tqdm) -> Rows:
        teacher, o = self.teacher, self.cfg.samples
        labels = torch.arange(shard.first, shard.stop) % teacher.num_classes
        noise = sample_noise(self.cfg, shard, teacher.num_tokens)
        tokens = []
        for y, u in zip(labels.split(o.batch), noise.split(o.batch), strict=True):
            with torch.autocast(teacher.device.type, torch.bfloat16, enabled=o.bf16):
                for drawn, _ in teacher.steps(y.to(teacher.device), **o.sampling.keywords(),
                                              noise=u):
                    last = drawn
            tokens.append(last.cpu())
            bar.update(len(y) * world())
        return Rows(torch.cat(tokens), labels, [])

    def _begin(self) -> float:
        """The settings beside the log; seconds that the same samples have taken so far."""
        settings = OmegaConf.to_yaml(OmegaConf.structured(self.cfg))
        write_atomic(self.folder / names.SETTINGS, settings.encode())
        pointer = self.folder / names.SAMPLES_ORIGIN.name
        same = pointer.is_file() and read_json(pointer).get("folder") == self.found.folder.name
        rows = read_log(self.log_file) if same and self.log_file.is_file() else []
        write_atomic(self.log_file, "".join(json.dumps(row) + "\n" for row in rows).encode())
        _point_to(self.cfg, self.found)
        return max((row.get("seconds", 0.0) for row in rows), default=0.0)

    def _log(self, done: int, seconds: float) -> None:
        n = min(done * self.cfg.samples.per_file, self.cfg.samples.n)
        with written(self.log_file), open(self.log_file, "a", encoding="utf-8") as f:
            f.write(json.dumps({"step": done, "seconds": round(seconds, 3), "images": n}) + "\n")
