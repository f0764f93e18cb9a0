"""Running the command lines of `train/` inside a test, on pictures small enough for seconds."""

import contextlib
import gzip
import json
import runpy
import shutil
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from dd2core.store.files import read_json, read_tensors
from dd2core.store.state import load_state
from train.engine.record.meter import TIMES
from train.settings.cli import load_config
from train.settings.schema import Config

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"
GREY = ("preset=tiny", f"data={PICTURES}", "channels=1")


@contextlib.contextmanager
def same_threads():
    """Leave torch's number of threads as it was: `threads=1` of a run is for the whole process."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cli(stage: str, *words: str) -> str | None:
    """`python -m train.STAGE WORDS` in this process.

    Returns:
        str | None: what it exits with: None, or the sentence that goes to stderr with status 1.
    """
    argv = sys.argv
    sys.argv = [f"train/{stage}.py", *words]
    try:
        with same_threads(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # runpy: it is imported already
            runpy.run_module(f"train.{stage}", run_name="__main__")
    except SystemExit as stop:
        return stop.code
    finally:
        sys.argv = argv
    return None


def config(*words: str) -> Config:
    """The grey tiny preset with more words."""
    return load_config([*GREY, *words])


def grey(stage: str, out: Path, *words: str) -> str | None:
    """`cli` of the grey tiny preset in the folder `out`."""
    return cli(stage, *GREY, f"out={out}", *words)


def copy_stages(source: Path, target: Path, *stages: str) -> Path:
    """Copy the folders of these stages from one run to another."""
    for stage in stages:
        shutil.copytree(source / stage, target / stage)
    return target


def log_steps(folder: Path) -> list[int]:
    """The steps in a stage's log, every line parsed."""
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def without_seconds(folder: Path) -> list[dict]:
    """The six lines of a finished log without their times, which must grow, and rates."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    seconds = [line.pop("seconds") for line in lines]
    assert seconds == sorted(seconds) and seconds[0] > 0
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def kept_tokens(run: Path) -> dict[str, torch.Tensor]:
    """The tokens and labels that a run keeps: tokens, labels, test_tokens, test_labels."""
    source = read_json(run / "tokens" / "source.json")
    [manifest] = (run / "tokens").glob("*/manifest.json")
    assert read_json(manifest)["plan"].items() <= source.items()
    found: dict[str, list] = {}
    for name in read_json(manifest)["files"]:
        before = "test_" if name.startswith("test-") else ""
        for key, a in read_tensors(manifest.parent / name, sealed=True).items():
            found.setdefault(before + key, []).append(a.long())
    return {key: torch.cat(parts) for key, parts in found.items()}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same_tree(a, b) -> bool:
    """Whether two nested structures of tensors, numbers and strings are equal, bit by bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_tree(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same_tree(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def same_state(a: Path, b: Path) -> bool:
    """Whether two stages ended in the same networks and optimisers, bit by bit."""
    left, right = load_state(a / "state.pt"), load_state(b / "state.pt")
    return all(same_tree(left[k], right[k]) for k in ("step", "networks", "optimizers"))


def split_pictures(folder: Path) -> Path:
    """The pictures as ImageNet has them: train and val, each with the class folders."""
    for i, path in enumerate(sorted(PICTURES.rglob("*.png"))):
        target = folder / ("val" if i % 4 == 0 else "train") / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.name)
    return folder


def write_idx(path: Path, values: np.ndarray) -> bytes:
    """Write uint8 values as an IDX file, gzipped if its name says so; returns the plain bytes."""
    head = struct.pack(f">I{values.ndim}I", 0x0800 | values.ndim, *values.shape)
    raw = head + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return raw


def write_idx_set(folder: Path, suffix: str = "", size: int = 28) -> dict[str, bytes]:
    """The four files of a tiny data set: 20 + 10 noisy grey images in ten classes."""
    folder.mkdir(parents=True, exist_ok=True)
    source, plain = np.random.default_rng(0), {}
    for part, n in (("train", 20), ("t10k", 10)):
        for kind, values in (
            ("images-idx3-ubyte", source.integers(0, 256, (n, size, size))),
            ("labels-idx1-ubyte", np.arange(n) % 10),
        ):
            name = f"{part}-{kind}"
            plain[name] = write_idx(folder / (name + suffix), values)
    return plain
