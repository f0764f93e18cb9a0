"""Small npm packages of emoji, drawn here: what `train.emoji` reads, without a network."""

import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

from train.data.emoji import drawings, folder, packages
from train.data.emoji.packages import Package

TONES = {"1F3FB": "#f7dece", "1F3FF": "#5c4033"}
# code points → (sub-category, has skin tones, colour); written as emoji.json writes them
EMOJI = {
    **{f"{0x1F436 + i:X}": ("animal-mammal", False, f"hsl({29 * i}, 80%, 40%)") for i in range(12)},
    **{f"{0x1F44A + i:X}": ("hand-fingers-closed", True, f"hsl({40 + 9 * i}, 90%, 60%)")
       for i in range(12)},
    **{f"1F1E6-{0x1F1E6 + i:X}": ("country-flag", False, f"hsl({31 * i}, 60%, 50%)")
       for i in range(12)},
    "1F44C-200D-2640-FE0F": ("hand-fingers-closed", False, "hsl(58, 90%, 10%)"),
    "1F3FB": ("skin-tone", False, "black"),
}
TWINS = ("1F1E6-1F1EA", "1F1E6-1F1EB")  # flags that look the same; one of them is held out


def _picture(codes: str, colour: str) -> Image.Image:
    """A half disc with a notch, which has no symmetry, on nothing; corners are transparent."""
    out = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    draw, n = ImageDraw.Draw(out), sum(map(ord, codes)) % 20
    draw.chord((4, 4, 60, 60), 100, 300, fill=colour)
    draw.rectangle((30, 10 + n, 36 + n // 2, 20 + n), fill="black")
    return out


def _png(picture: Image.Image) -> bytes:
    with io.BytesIO() as data:
        picture.save(data, "PNG")
        return data.getvalue()


def _rows() -> list[dict]:
    rows = []
    for i, (codes, (sub, toned, _)) in enumerate(EMOJI.items()):
        row = {"unified": codes, "non_qualified": None, "name": f"THING {i}", "sort_order": i,
               "short_names": [f"thing_{i}"], "subcategory": sub, "category": "X"}
        if toned:
            row["skin_variations"] = {t: {"unified": f"{codes}-{t}"} for t in TONES}
        rows.append(row)
    return rows


def _colours() -> dict[str, str]:
    """Codes with and without skin tones → colour."""
    found = {}
    for codes, (_, toned, colour) in EMOJI.items():
        found[codes] = colour
        found |= {f"{codes}-{t}": tone for t, tone in TONES.items() if toned}
    return found


def _tarball(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _svg_icons() -> dict:
    """The same emoji as SVG: half a disc."""
    icons = {}
    for i, (_, _, colour) in enumerate(EMOJI.values()):
        icons[f"thing-{i}"] = {"body": f'<path fill="{colour}" d="M8 1A7 7 0 0 0 8 15z"/>'
                                       f'<circle cx="{5 + i % 3}" cy="{3 + i % 10}" r="1"/>'}
    icons["thing_0"] = icons["thing-0"]  # the same one by another name
    icons["thing-1"] = {**icons["thing-1"], "hidden": True}
    return {"icons": icons, "width": 16, "height": 16}


def make_packages(where: Path, monkeypatch, svg: bool = False) -> Path:
    """Write the packages into a folder and make `train.emoji` ask for these.

    Two styles of PNG (`noto` and `twemoji`), or `noto` and one of SVG (`blob`).
    """
    where.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, bytes]] = {"set-one": {
        "emoji.json": json.dumps(_rows()).encode(), "chars.json": b"{}",
        "img/note.txt": b"no picture"}, "@scope/set-two": {}}
    for codes, colour in _colours().items():
        drawn = _picture(TWINS[0] if codes in TWINS else codes,
                         EMOJI[TWINS[0]][2] if codes in TWINS else colour)
        files["set-one"][f"img/{codes.lower()}.png"] = _png(drawn)
        files["@scope/set-two"][f"img/{codes.lower()}.png"] = _png(drawn.rotate(20))
    files["@scope/set-two"]["icons.json"] = json.dumps(_svg_icons()).encode()
    made = []
    for name, content in files.items():
        package = Package(name, "1.0.0", "", 0.1, "Drawn for the tests")
        _tarball(where / package.file, content)
        digest = hashlib.sha256((where / package.file).read_bytes()).hexdigest()
        made.append(dataclasses.replace(package, sha256=digest))
    second = drawings.Style("@scope/set-two", *((drawings.ICONS,) if svg else
                                                (drawings.FOLDER, "package/img")))
    styles = {"noto": drawings.Style("set-one", drawings.FOLDER, "package/img"),
              "blob" if svg else "twemoji": second}
    for module in (packages, folder):
        monkeypatch.setattr(module, "PACKAGES", tuple(made))
    for module in (drawings, folder):
        monkeypatch.setattr(module, "STYLES", styles)
    monkeypatch.setattr(drawings, "CATALOGUE", ("set-one", "package/emoji.json"))
    monkeypatch.setattr(drawings, "NAMES", ("set-one", "package/chars.json"))
    return where
