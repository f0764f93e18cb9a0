"""Damaging what training and export have written: seeded, countable.

    python -m tests.harness.damage 200 300     states and assets

Each damaged file ends in the result of the whole one, or in one sentence.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from dd2core.errors import DD2Error
from dd2core.pipeline import load_pipeline
from dd2core.store.files import read_tensors, write_manifest, write_tensors
from dd2core.store.folder import save_folder
from tests.harness.kills import BEFORE, WORDS, in_child, prepare
from tests.support import tiny
from tests.support.train_helpers import grey, same_tree
from train.measure.classifier import Classifier, find_classifier

SIZES = {"image_channels": 1, "width": 4, "features": 8, "num_classes": 3}
KEPT = ("generator", "guidance")


def harm(path: Path, source: random.Random) -> str:
    """Damage a file; says how."""
    data = bytearray(path.read_bytes())
    how = source.choice(("flip", "flip", "flip", "truncate", "zeros", "more", "remove"))
    if how == "remove" or not data:
        path.unlink()
        return "remove"
    at = source.randrange(len(data))
    if how == "flip":
        data[at] ^= 1 << source.randrange(8)
    elif how == "truncate":
        del data[at:]
    elif how == "zeros":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    else:
        data += source.randbytes(64)
    path.write_bytes(data)
    return how


def is_sentence(text: str) -> bool:
    """Whether an error is what a user is meant to read."""
    return text.endswith(".") and "\n" not in text and "Traceback" not in text


# A run ----------------------------------------------------------------------------------------

def half_done(folder: Path, prepared: Path) -> tuple[Path, Path]:
    """A run stopped in the middle of csd, and a whole one."""
    half, whole = folder / "half", folder / "whole"
    for out in (half, whole):
        shutil.copytree(prepared, out)
    for out, at in ((half, 5), (whole, None)):
        assert os.waitpid(in_child(lambda out=out, at=at: _csd(out, at)), 0)[1] == 0
    return half, whole


def _csd(out: Path, stop: int | None = None) -> str | None:
    from train.engine import loop

    step = loop.seeded_step

    def seeded_step(cfg, job, i, stage):
        if i == stop:
            os._exit(0)
        return step(cfg, job, i, stage)

    loop.seeded_step = seeded_step
    return grey("csd", out, *WORDS)


def damaged_states(half: Path, whole: Path, folder: Path, n: int, seed: int = 0) -> Counter:
    """Damage a file of the run n times, half of the times its state, and go on with it.

    Raises:
        AssertionError: it ended in another result, or in something else than a sentence.
    """
    source, ends = random.Random(seed), Counter()
    expected = {name: read_tensors(whole / "csd" / f"{name}.safetensors") for name in KEPT}
    stages = (*BEFORE, "csd", "tokens", "dd1-pairs")
    for i in range(n):
        out = folder / f"damaged-{i}"
        shutil.copytree(half, out)
        files = sorted(p for s in stages for p in (out / s).rglob("*")
                       if p.is_file() and p.suffix != ".lock")
        state = out / "csd" / "state.pt"
        path = state if source.random() < 0.5 else source.choice(files)
        what = f"{path.relative_to(out)}: {harm(path, source)} (seed {seed}, number {i})"
        said = folder / "said"
        said.unlink(missing_ok=True)

        def work(out=out, said=said):
            end = grey("csd", out, *WORDS)
            said.write_text(end or "done")

        _, status = os.waitpid(in_child(work), 0)
        assert status == 0, f"{what}: a traceback"
        text = said.read_text()
        if text == "done":
            for name, tensors in expected.items():
                found = read_tensors(out / "csd" / f"{name}.safetensors", sealed=True)
                assert same_tree(found, tensors), f"{what}: another {name}"
        else:
            assert text.startswith("error: ") and is_sentence(text), f"{what}: {text}"
        ends["the same result" if text == "done" else "a sentence"] += 1
        shutil.rmtree(out)
    return ends


# A model folder -------------------------------------------------------------------------------

def make_model(folder: Path) -> Path:
    """A tiny model folder with all its parts."""
    torch.manual_seed(0)
    save_folder(folder, tiny.model(), extra={"classifier": SIZES})
    write_tensors(folder / "classifier.safetensors", Classifier(**SIZES).state_dict())
    write_manifest(folder)
    return folder


def look(folder: Path) -> dict:
    """What a model folder gives: images of each sampler, and the classifier's numbers."""
    pipe, found = load_pipeline(str(folder), "cpu"), find_classifier(folder)
    model = found[0] if found else torch.flatten
    image = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    return {"one": torch.tensor(pipe.sample_one_step([0, 1]).images), "names": pipe.class_names,
            "teacher": pipe.sample_teacher([2]).tokens, "classes": model(image).detach(),
            "guidance": pipe.guidance.state_dict()}


def damaged_assets(model: Path, folder: Path, n: int, seed: int = 0) -> Counter:
    """Damage a file of a model folder n times, and load it.

    Raises:
        AssertionError: it gave other images, or something else than a sentence.
    """
    source, ends, expected = random.Random(seed), Counter(), look(model)
    for i in range(n):
        out = folder / f"damaged-{i}"
        shutil.copytree(model, out)
        path = source.choice(sorted(out.iterdir()))
        what = f"{path.name}: {harm(path, source)} (seed {seed}, number {i})"
        ends[_end(out, what, expected)] += 1
        shutil.rmtree(out)
    return ends


def _end(out: Path, what: str, expected: dict) -> str:
    try:
        found = look(out)
    except DD2Error as error:
        assert is_sentence(str(error)), f"{what}: {error}"
        return "a sentence"
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert same_tree(found, expected), f"{what}: other images"
    return "the same result"


def main() -> None:
    """Damage as often as the command line says."""
    states, assets = (int(n) for n in (sys.argv[1:] or (200, 300)))
    with tempfile.TemporaryDirectory() as name:
        folder, since = Path(name), time.perf_counter()
        if states:
            print("states", dict(damaged_states(*half_done(folder, prepare(folder / "run")), folder,
                                              states)))
        model = make_model(folder / "model")
        print("assets", dict(damaged_assets(model, folder, assets)))
        print(f"{time.perf_counter() - since:.0f} s")


if __name__ == "__main__":
    main()
