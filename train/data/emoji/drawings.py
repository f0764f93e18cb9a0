"""The drawing of every emoji in every style, as its package has it: PNG, WebP or SVG."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dd2core.errors import DD2Error
from train.data.emoji.catalogue import Catalogue, Emoji, as_codes, plain_name, read_catalogue
from train.data.emoji.packages import members

FOLDER, ICONS = "folder of pictures named by codes", "Iconify's JSON of SVG"


@dataclass(frozen=True)
class Style:
    """Where the drawings of a style are."""

    package: str
    kind: str
    folder: str = "package"


STYLES = {  # no "-" in a name: it ends where that begins in a picture's file name
    "noto": Style("emoji-datasource-google", FOLDER, "package/img/google/64"),
    "twemoji": Style("emoji-datasource-twitter", FOLDER, "package/img/twitter/64"),
    "fluent3d": Style("@lobehub/fluent-emoji-3d", FOLDER, "package/assets"),
    "fluentflat": Style("@iconify-json/fluent-emoji-flat", ICONS),
    "blob": Style("@iconify-json/noto-v1", ICONS),
    "firefox": Style("@iconify-json/fxemoji", ICONS),
}
CATALOGUE = ("emoji-datasource-google", "package/emoji.json")
NAMES = ("@iconify-json/fluent-emoji-flat", "package/chars.json")  # of all icons, near enough


@dataclass(frozen=True)
class Drawing:
    """One emoji, in one skin tone and style; `data` is an SVG's text or a picture file's bytes."""

    style: str
    codes: str
    emoji: Emoji
    data: str | bytes

    @property
    def name(self) -> str:
        """Of its picture, without an ending."""
        return f"{self.style}-{self.codes}"


def open_catalogue(packages: Mapping[str, Path]) -> Catalogue:
    """The catalogue, with the names that packages without code points go by.

    Raises:
        DD2Error: a package does not hold what it should.
    """
    _, listed = _only(packages, *CATALOGUE)
    _, chars = _only(packages, *NAMES)
    return read_catalogue(listed, _load(chars, NAMES[1]).items())


def read_style(style: str, packages: Mapping[str, Path], known: Catalogue) -> Iterator[Drawing]:
    """The drawings of a style that the catalogue knows; one for each codes.

    Raises:
        DD2Error: the package does not hold what it should.
    """
    source, seen = STYLES[style], set()
    read = _folder if source.kind == FOLDER else _icons
    for codes, data in read(source, packages, known):
        if codes in known.emoji and codes not in seen:
            seen.add(codes)
            yield Drawing(style, codes, known.emoji[codes], data)


def _folder(source: Style, packages: Mapping[str, Path],
            known: Catalogue) -> Iterator[tuple[str, bytes]]:
    for name, data in members(packages[source.package],
                              lambda n: PurePosixPath(n).parent.as_posix() == source.folder):
        try:
            yield as_codes(PurePosixPath(name).stem), data
        except ValueError:
            continue  # the set's own placeholder and the like


def _icons(source: Style, packages: Mapping[str, Path],
           known: Catalogue) -> Iterator[tuple[str, str]]:
    _, data = _only(packages, source.package, f"{source.folder}/icons.json")
    found = _load(data, f"{source.package}'s icons.json")
    for name, icon in sorted(found["icons"].items()):
        codes = known.names.get(plain_name(name))
        if codes is not None and not icon.get("hidden"):
            yield codes, _svg(icon, found)


def _svg(icon: dict, common: dict) -> str:
    box = " ".join(str(icon.get(key, common.get(key, default)))
                   for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16)))
    return ('<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}">{icon["body"]}</svg>')


def _only(packages: Mapping[str, Path], package: str, member: str) -> tuple[str, bytes]:
    for found in members(packages[package], lambda n: n == member):
        return found
    raise DD2Error(f"{packages[package]} holds no {member}: remove it and run the same command "
                   "again.")


def _load(data: bytes, what: str) -> dict:
    try:
        return json.loads(data)
    except ValueError:
        raise DD2Error(f"{what} is not JSON: remove the package's .tgz file and run the same "
                       "command again.") from None
