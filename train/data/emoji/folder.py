"""All pictures, written: FOLDER/{train,val}/CLASS/STYLE-CODES[-copyN[-mirrored]].png.

It is built beside its place, in `.NAME.building`, and moved there when it is whole; a build that
was stopped goes on where it was. First every original is drawn, then the split is made, as it has
to know which pictures look the same, then copies are made.
"""

import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dd2core.errors import DD2Error
from dd2core.store.atomic import written
from dd2core.store.files import read_json, write_json
from train.data.emoji.augment import changed, is_mirrored
from train.data.emoji.catalogue import Catalogue
from train.data.emoji.drawings import STYLES, Drawing, read_style
from train.data.emoji.packages import PACKAGES
from train.data.emoji.render import on_white, render
from train.data.emoji.split import held_out

ABOUT = "emoji.json"  # in the folder: what it was made with, and how many of each there are
ORIGINALS = "originals"  # in the folder that is being built
STAMP = "building.json"  # there too: what it is made with
FEWEST = 5  # pictures to train on; with styles=separate a class of a style may have fewer


@dataclass(frozen=True)
class Plan:
    """What a folder is made with."""

    size: int
    copies: int
    separate: bool  # a class is a category in one style

    def class_of(self, d: Drawing) -> str:
        """The class that a drawing's picture is of."""
        return f"{d.emoji.category}, {d.style}" if self.separate else d.emoji.category

    def settings(self) -> dict:
        """What must be the same for a build to go on."""
        return {**vars(self), "packages": {p.spec: p.sha256 for p in PACKAGES}}


def all_drawings(packages: Mapping[str, Path], known: Catalogue) -> Iterator[Drawing]:
    """Every drawing of every style."""
    for style in STYLES:
        yield from read_style(style, packages, known)


def finished(out: Path, plan: Plan) -> dict | None:
    """What `ABOUT` of a finished folder says; None if there is none yet.

    Raises:
        DD2Error: the folder is of other settings, or not made by this command.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / ABOUT).is_file():
        raise DD2Error(f"out={out} is there and was not made by this command: name another folder.")
    about = read_json(out / ABOUT)
    if about.get("settings") != plan.settings():
        raise DD2Error(f"out={out} was made with other settings: name another folder, or move it "
                       "away.")
    return about


def build(out: Path, plan: Plan, packages: Mapping[str, Path], known: Catalogue) -> dict:
    """Write the folder; returns what its `ABOUT` says.

    Raises:
        DD2Error: a drawing cannot be read, or something cannot be written.
    """
    work = out.with_name(f".{out.name}.building")
    with written(out):
        _start(work, plan)
        drawings, looks = _draw(work, plan, packages, known)
        held = held_out((d.emoji for d in drawings), looks)
        drawings, left = _usable(drawings, held, plan)
        counts = _write_parts(work, drawings, held, plan)
        shutil.rmtree(work / ORIGINALS)
        write_json(work / ABOUT, {
            "settings": plan.settings(), "held_out": sorted(held), "left_out": left, **counts,
            "licences": {p.spec: p.credit for p in PACKAGES}})
        (work / STAMP).unlink()
        if out.is_dir():
            out.rmdir()  # an empty one, see `finished`
        os.replace(work, out)
    return read_json(out / ABOUT)


def _start(work: Path, plan: Plan) -> None:
    """An empty folder to build in, or the one of a build that was stopped."""
    stamp = work / STAMP
    text = json.dumps(plan.settings())
    if work.exists() and not (stamp.is_file() and stamp.read_text(encoding="utf-8") == text):
        shutil.rmtree(work)
    (work / ORIGINALS).mkdir(parents=True, exist_ok=True)
    (work / ".gitignore").write_text("*\n", encoding="utf-8")  # pictures are not committed
    stamp.write_text(text, encoding="utf-8")


def _draw(work: Path, plan: Plan, packages: Mapping[str, Path], known: Catalogue
          ) -> tuple[list[Drawing], dict[str, set[str]]]:
    """Draw the originals that are not there; returns all, without their data, and which emoji look
    the same, or as the other's mirror image: digest → codes."""
    found: list[Drawing] = []
    looks: dict[str, set[str]] = {}
    for style in STYLES:
        for d in read_style(style, packages, known):
            path = work / ORIGINALS / f"{d.name}.png"
            if not path.is_file():
                _save(path, render(d.data, plan.size, d.name))
            picture = _load(path)
            one = min(picture.tobytes(), picture[:, ::-1].tobytes())
            looks.setdefault(hashlib.sha256(one).hexdigest(), set()).add(d.emoji.codes)
            found.append(Drawing(d.style, d.codes, d.emoji, b""))
        print(f"emoji: {sum(d.style == style for d in found)} pictures in style {style}",
              flush=True)
    return found, looks


def _usable(drawings: list[Drawing], held: set[str], plan: Plan
            ) -> tuple[list[Drawing], list[str]]:
    """Drawings of classes that have pictures in both parts, and the names of the other classes."""
    parts = {True: Counter(), False: Counter()}
    for d in drawings:
        parts[d.emoji.codes in held][plan.class_of(d)] += 1
    good = {name for name, n in parts[False].items() if n >= FEWEST and parts[True][name]}
    left = sorted({plan.class_of(d) for d in drawings} - good)
    return [d for d in drawings if plan.class_of(d) in good], left


def _write_parts(work: Path, drawings: list[Drawing], held: set[str], plan: Plan) -> dict:
    """Both parts, originals and copies; returns how many there are."""
    table: dict[str, Counter] = {}
    n = Counter(train=0, val=0, copies=0, mirrored=0)
    for d in drawings:
        name, part = plan.class_of(d), "val" if d.emoji.codes in held else "train"
        table.setdefault(name, Counter())[d.style] += 1
        n[part] += 1
        source, folder = work / ORIGINALS / f"{d.name}.png", work / part / name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / source.name).is_file():
            _put(folder / source.name, source.read_bytes())
        for k in range(1, plan.copies + 1) if part == "train" else ():
            mirror = is_mirrored(k, d.emoji.mirrored)
            n["copies"] += 1
            n["mirrored"] += mirror
            path = folder / f"{d.name}-copy{k}{'-mirrored' if mirror else ''}.png"
            if not path.is_file():
                _save(path, changed(_load(source), d.name, k, mirror))
    return {"totals": dict(n), "originals": {name: dict(found) for name, found in table.items()}}


def _load(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(on_white(picture))


def _save(path: Path, picture: np.ndarray) -> None:
    with io.BytesIO() as data:
        Image.fromarray(picture).save(data, "PNG")
        _put(path, data.getvalue())


def _put(path: Path, data: bytes) -> None:
    """Half a file has another name. Without waiting for the disk, unlike `write_atomic`: these are
    many, and nothing reads them before the folder is whole."""
    tmp = path.with_suffix(".tmp")
    tmp.write_bytes(data)
    os.replace(tmp, path)
