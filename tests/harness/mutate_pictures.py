"""Pictures changed at random, seeded: each is read right, or refused in one sentence that names it.

    python -m tests.harness.mutate_pictures [N] [SEED]        # 300 pictures, seed 0

A case is a class folder with one changed picture. `same` stores the picture otherwise (kind, mode,
orientation, bits, transparency), so that its pixels are known; `damage` changes bytes of the file;
`odd` puts something in its place that is no picture.
"""

import os
import random
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dd2core.errors import DD2Error
from tests.support.train_helpers import PICTURES
from train.data.pictures import open_pictures

KINDS = ("png", "jpg", "webp", "gif", "bmp", "tif", "ppm", "jp2", "avif")
EXACT = ("png", "webp", "bmp", "tif", "ppm", "jp2")  # that store RGB without loss
SECONDS = 20  # of CPU time that one picture may take
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
         6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_270}  # what undoes an EXIF orientation's turn


def save(picture: Image.Image, path: Path, **more) -> None:
    """Save without loss where the kind can."""
    if path.suffix.lower() == ".webp":
        more = {"lossless": True, "exact": True, **more}
    picture.save(path, **more)


def same(source: random.Random, x: np.ndarray, folder: Path) -> tuple[Path, np.ndarray]:
    """The picture x, uint8 (H, W, 3), stored in some other way; its path and what it shows."""
    kind = source.choice(EXACT)
    path = folder / f"zz.{source.choice([kind, kind.upper()])}"
    way = source.choice(("rgb", "turned", "alpha", "opaque", "grey16", "float", "palette", "1"))
    if way == "turned":
        path = folder / f"zz.{source.choice(('png', 'webp', 'tif'))}"
        number = source.choice([*TURNS])
        exif = Image.Exif()
        exif[0x0112] = number
        turned = Image.fromarray(x).transpose(TURNS[number])
        save(turned, path, exif=exif)
        return path, np.asarray(_upright(turned, number))
    if way in ("alpha", "opaque"):
        path = folder / f"zz.{source.choice(('png', 'webp', 'tif'))}"
        alpha = np.full(x.shape[:2], 255, np.uint8)
        if way == "alpha":
            alpha[: x.shape[0] // 2] = 0
        save(Image.fromarray(np.dstack([x, alpha])), path)
        return path, np.where(alpha[..., None] > 0, x, 255).astype(np.uint8)
    if way == "grey16":
        path, grey = folder / f"zz.{source.choice(('png', 'tif', 'pgm'))}", x[..., 0]
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
        return path, np.repeat(grey[..., None], 3, 2)
    if way == "float":
        path, grey = folder / f"zz.{source.choice(('tif', 'pfm'))}", x[..., 0]
        Image.fromarray(grey.astype(np.float32) / 255).save(path)
        return path, np.repeat(grey[..., None], 3, 2)
    if way == "palette":
        path = folder / f"zz.{source.choice(('png', 'gif', 'bmp'))}"
        p = Image.fromarray(x).quantize(16)
        p.save(path)
        return path, np.asarray(p.convert("RGB"))
    if way == "1":
        path = folder / f"zz.{source.choice(('png', 'tif', 'pbm', 'bmp'))}"
        one = Image.fromarray(x).convert("1")
        one.save(path)
        return path, np.asarray(one.convert("RGB"))
    save(Image.fromarray(x), path)
    return path, x


def _upright(stored: Image.Image, number: int) -> Image.Image:
    undone = {6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    return stored.transpose(undone.get(number, TURNS[number]))


def damage(source: random.Random, x: np.ndarray, folder: Path) -> Path:
    """The picture with some bytes of its file changed."""
    path = folder / f"zz.{source.choice(KINDS)}"
    Image.fromarray(x).save(path)
    data = bytearray(path.read_bytes())
    way = source.choice(("flip", "many", "cut", "drop", "twice", "zero", "noise", "head", "tail"))
    at = source.randrange(len(data))
    some = min(len(data) - at, source.randrange(1, 40))
    if way == "flip":
        data[at] ^= 1 << source.randrange(8)
    elif way == "many":
        for _ in range(20):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    elif way == "cut":
        del data[at:]
    elif way == "drop":
        del data[at : at + some]
    elif way == "twice":
        data[at:at] = data[at : at + some]
    elif way == "zero":
        data[at : at + some] = bytes(some)
    elif way == "noise":
        data[at : at + some] = source.randbytes(some)
    elif way == "head":
        data[:60] = source.randbytes(60)
    else:
        data += source.randbytes(200)
    path.write_bytes(bytes(data))
    return path


def odd(source: random.Random, x: np.ndarray, folder: Path) -> Path:
    """What is no picture, under a picture's name."""
    path = folder / f"zz.{source.choice(KINDS)}"
    way = source.choice(("empty", "pipe", "nothing", "circle", "device", "pointer", "text", "heic",
                         "eps", "bomb", "narrow", "name", "folder"))
    if way == "pipe":
        os.mkfifo(path)
    elif way in ("nothing", "circle", "device"):
        path.symlink_to({"nothing": "gone", "circle": path.name, "device": "/dev/zero"}[way])
    elif way == "folder":
        path = folder / "zz"
        path.symlink_to(folder)
    elif way in ("bomb", "narrow"):
        sizes = (30_000, 30_000) if way == "bomb" else (1, source.randrange(101, 50_000))
        path.write_bytes(_png(*sizes))
    else:
        if way == "name":
            path = folder / "zz\n\x1b[2J.png"
        path.write_bytes({
            "empty": b"", "text": b"hello\n", "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
            "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "name": b"",
            "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"}[way])
    return path


def _png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))
            + chunk(b"IEND", b""))


def read(folder: Path, path: Path, size: int) -> torch.Tensor:
    """The changed picture, uint8 (3, size, size), as training would read it."""
    pictures = open_pictures(folder, size, 3)
    [(x, _)] = replace(pictures, parts={"one": torch.tensor([pictures.paths.index(str(path))])}
                       ).read("one")
    return x[0]


def case(seed: int, number: int, folder: Path) -> str:
    """Run one case below an empty folder; what it ended in.

    Raises:
        AssertionError: neither the right pixels nor one sentence.
    """
    source = random.Random(seed * 1_000_003 + number)
    for name in ("disc", "frame"):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            (folder / name / f"{i:02d}.png").symlink_to(PICTURES / name / f"{i:02d}.png")
    shape = source.randrange(12, 50), source.randrange(12, 50)
    original = Image.open(PICTURES / "disc" / f"{source.randrange(20):02d}.png").convert("RGB")
    x, since = np.asarray(original.resize(shape)), time.process_time()
    way, shown = source.choice(("same", "damage", "odd")), None
    if way == "same":
        path, shown = same(source, x, folder / "disc")
    else:
        path = {"damage": damage, "odd": odd}[way](source, x, folder / "disc")
    size = min(x.shape[:2]) if shown is None else min(shown.shape[:2])
    try:
        found = read(folder, path, size)
    except DD2Error as error:
        text = str(error)
        assert shown is None, f"case {number}: {path.name} is a picture, but: {text}"
        assert "\n" not in text and "\x1b" not in text and text.endswith("."), text
        assert "zz" in text, f"case {number}: the sentence does not name the file: {text}"
        return f"{way}: refused"
    finally:
        took = time.process_time() - since
        assert took < SECONDS, f"case {number} took {took:.0f} s"
    assert way != "odd", f"case {number}: {path.name} is no picture and was read"
    assert found.shape == (3, size, size) and found.dtype == torch.uint8
    if shown is not None:
        _compare(number, found, shown, size)
    return f"{way}: read"


def _compare(number: int, found: torch.Tensor, shown: np.ndarray, size: int) -> None:
    top, left = (round((n - size) / 2) for n in shown.shape[:2])
    wanted = torch.from_numpy(shown[top : top + size, left : left + size].copy()).permute(2, 0, 1)
    off = (found.int() - wanted.int()).abs().max().item()
    assert off <= 1, f"case {number}: pixels differ by {off}"


def run(n: int, seed: int) -> Counter:
    """Run n cases; how many ended in what."""
    found: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n):
            found[case(seed, number, Path(folder) / str(number))] += 1
    return found


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    for what, times in sorted(run(*(words + [300, 0][len(words) :])).items()):
        print(f"{times:4d} {what}")
