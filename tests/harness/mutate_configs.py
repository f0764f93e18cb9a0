"""config.json files changed at random, seeded: a model paints what it says, or one sentence.

    python -m tests.harness.mutate_configs [N] [SEED]        # 300 files, seed 0

A case is a model folder whose config.json is written otherwise (`same`: the same object), changed
in one or two values (`value`) or in its bytes (`bytes`), and whose manifest is made anew, so that
the digest does not say it all. `stale` leaves the manifest: that must always be refused.
"""

import copy
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from dd2core.errors import DD2Error
from dd2core.pipeline import load_pipeline
from dd2core.store.files import write_manifest
from dd2core.store.folder import save_folder
from tests.support import tiny, tiny_var

SECONDS = 20  # of CPU time that one folder may take
VALUES = (None, True, False, 0, 1, -1, 2, 3, 4, 5, 7, 16, 31, 33, 0.5, 1.5, -0.0, 1e308, 2**31,
          2**63, 10**30, "", "x", "4", "cat", "../up", "/abs/path", "a/b", "a\nb", "Ü" * 300, [],
          [1], [0], [-1], ["cat"], [1, 2, 3], [[]], {}, {"a": 1}, [None], "codes", "table", "var")
LAYOUT = ("tokenizer", "transformer", "head")  # whose change may give other images


def folders(where: Path) -> dict[str, Path]:
    """A model folder of each family."""
    made = {}
    for name, model in (("llamagen", tiny.model()), ("var", tiny_var.model())):
        made[name] = where / name
        save_folder(made[name], model, extra={"classifier": None, "source": {"files": {}}})
    return made


def places(value, path: tuple = ()) -> list[tuple]:
    """The path of every value inside a JSON object."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    for key, each in inner:
        found += places(each, (*path, key))
    return found


def change(source: random.Random, config: dict) -> tuple:
    """Change one value in place; returns its path."""
    path = source.choice(places(config))
    at = config
    for key in path[:-1]:
        at = at[key]
    old = at[path[-1]]
    way = source.choice(("put", "put", "put", "drop", "near", "twice", "name"))
    if way == "drop":
        del at[path[-1]]
    elif way == "near" and isinstance(old, int | float) and not isinstance(old, bool):
        at[path[-1]] = source.choice((old + 1, old - 1, old * 2, -old, float(old), str(old)))
    elif way == "twice" and isinstance(old, list) and old:
        at[path[-1]] = old + old[-1:]
    elif way == "name" and isinstance(at, dict):
        at[f"{path[-1]}x"] = at.pop(path[-1])
    else:
        at[path[-1]] = copy.deepcopy(source.choice(VALUES))
    return path


def otherwise(source: random.Random, config: dict) -> bytes:
    """The same object, written in another way."""
    items = list(config.items())
    source.shuffle(items)
    if source.random() < 0.5:
        items.append(("comment", source.choice((None, "x", [1], {"a": {}}))))
    text = json.dumps(dict(items), indent=source.choice((None, 0, 4)),
                      ensure_ascii=source.random() < 0.5)
    return source.choice(("", "\n", " ")).encode() + text.encode() + source.choice((b"", b"\n\n"))


def spoilt(source: random.Random, data: bytes) -> bytes:
    """The file with other bytes."""
    way, out, at = source.choice(("flip", "cut", "drop", "deep", "noise", "bom", "empty", "nan",
                                  "list", "other")), bytearray(data), source.randrange(len(data))
    if way == "flip":
        out[at] ^= 1 << source.randrange(8)
    elif way == "cut":
        del out[at:]
    elif way == "drop":
        del out[at : at + source.randrange(1, 30)]
    elif way == "noise":
        out[at : at + 8] = source.randbytes(8)
    elif way == "other":
        out = bytearray(data.decode().encode(source.choice(("utf-16", "utf-32"))))
    return bytes({"deep": b"[" * 100_000, "bom": b"\xef\xbb\xbf" + data, "empty": b"",
                  "nan": data.replace(b"2.0", b"NaN").replace(b"1.0", b"Infinity"),
                  "list": b"[" + data + b"]"}.get(way, out))


@torch.no_grad()
def paint(folder: Path) -> np.ndarray:
    """One image by each of the two samplers, and a refined one: uint8 (3, H, W, channels)."""
    pipe = load_pipeline(str(folder), "cpu")
    assert pipe.class_names and all(isinstance(c, str) and c for c in pipe.class_names)
    labels = [len(pipe.class_names) - 1]
    samples = [pipe.sample_teacher(labels, seed=1), pipe.sample_one_step(labels, seed=1),
               pipe.refine(labels, seed=1, start=1)]
    return np.concatenate([s.images for s in samples])


def case(seed: int, number: int, made: dict[str, Path], expected: dict[str, np.ndarray],
         folder: Path) -> str:
    """Run one case in a folder that is not there yet; what it ended in.

    Raises:
        AssertionError: neither the right images nor one sentence.
    """
    source = random.Random(seed * 1_000_003 + number)
    family = source.choice(sorted(made))
    shutil.copytree(made[family], folder)
    file, paths = folder / "config.json", []
    data = file.read_bytes()
    config = json.loads(data)
    way = source.choice(("same", "value", "value", "value", "value", "bytes", "bytes", "stale"))
    if way == "same":
        file.write_bytes(otherwise(source, config))
    elif way == "bytes":
        file.write_bytes(spoilt(source, data))
    else:
        paths = [change(source, config) for _ in range(source.choice((1, 1, 2)))]
        file.write_text(json.dumps(config))
    if way == "stale":
        file.write_bytes(file.read_bytes() + b" ")
    else:
        write_manifest(folder)
    since = time.process_time()
    try:
        images = paint(folder)
    except DD2Error as error:
        text = str(error)
        assert way != "same", f"case {number}: the same config is refused: {text}"
        assert "\n" not in text and text.endswith(".") and len(text) < 2000, f"{number}: {text}"
        return f"{way}: refused"
    finally:
        shutil.rmtree(folder)
        took = time.process_time() - since
        assert took < SECONDS, f"case {number} took {took:.0f} s"
    assert way != "stale", f"case {number}: another config than the manifest's is accepted"
    if way == "bytes" or any(path[0] in (*LAYOUT, "sampling", "parts") for path in paths):
        assert images.dtype == np.uint8 and len(images) == 3, f"case {number}: {paths}"
        return f"{way}: as it says"
    assert (images == expected[family]).all(), f"case {number}: other images by {paths}"
    return f"{way}: the same images"


def run(n: int, seed: int) -> Counter:
    """Run n cases; how many ended in what."""
    found: Counter = Counter()
    with tempfile.TemporaryDirectory() as where:
        made = folders(Path(where))
        expected = {family: paint(folder) for family, folder in made.items()}
        for number in range(n):
            found[case(seed, number, made, expected, Path(where) / "case")] += 1
    return found


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    for what, times in sorted(run(*(words + [300, 0][len(words) :])).items()):
        print(f"{times:4d} {what}")
