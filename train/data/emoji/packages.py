"""The npm packages that hold the emoji: fetched with the ordinary npm client, checked, read.

Each is one `.tgz` file of a pinned version and sha256. Those that lie in the folder already are
used again; they may also have been packed on another machine (`npm pack NAME@VERSION`).
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dd2core.errors import DD2Error
from dd2core.store.atomic import written
from dd2core.store.files import sha256

MOST_MEMBER = 2**27  # bytes of one file in a package
PATIENCE = 1800  # seconds that one download may take


@dataclass(frozen=True)
class Package:
    """One npm package, and whose drawings are in it."""

    name: str
    version: str
    sha256: str  # of the tarball
    mib: float  # its size
    credit: str  # whose drawings, under which licence

    @property
    def spec(self) -> str:
        """What npm calls it."""
        return f"{self.name}@{self.version}"

    @property
    def file(self) -> str:
        """The name that `npm pack` gives the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


PACKAGES = (
    Package("emoji-datasource-google", "16.0.0",
            "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438", 70.9,
            "Noto Emoji, Copyright Google LLC, Apache License 2.0"),
    Package("emoji-datasource-twitter", "16.0.0",
            "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877", 58.8,
            "Twemoji, Copyright Twitter, Inc and other contributors, CC BY 4.0"),
    Package("@lobehub/fluent-emoji-3d", "1.1.0",
            "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58", 15.1,
            "Fluent Emoji, Copyright Microsoft Corporation, MIT licence"),
    Package("@iconify-json/fluent-emoji-flat", "1.2.6",
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175", 1.1,
            "Fluent Emoji Flat, Copyright Microsoft Corporation, MIT licence"),
    Package("@iconify-json/noto-v1", "1.2.5",
            "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37", 1.5,
            "Noto Emoji version 1 (blobs), Copyright Google Inc., Apache License 2.0"),
    Package("@iconify-json/fxemoji", "1.2.2",
            "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef", 1.0,
            "Firefox OS Emoji, Copyright Mozilla Foundation, CC BY 4.0"),
)


def absent(folder: Path) -> list[Package]:
    """The packages whose tarball is not in the folder."""
    return [p for p in PACKAGES if not (folder / p.file).is_file()]


def find_packages(folder: Path) -> dict[str, Path]:
    """The tarball of every package by its name; those that are not in the folder are fetched.

    Raises:
        DD2Error: npm is not there or fails, or a tarball is not the one expected.
    """
    missing = absent(folder)
    npm = shutil.which("npm")
    if missing and npm is None:
        raise DD2Error(
            f"The command npm, which fetches {len(missing)} packages, is not installed: install "
            "Node.js, or run `npm pack " + " ".join(p.spec for p in missing) + "` on another "
            "machine and name the folder with its .tgz files as packages=FOLDER.")
    for package in PACKAGES:
        if package in missing:
            _fetch(npm, package, folder)
        _check(folder / package.file, package)
    return {p.name: folder / p.file for p in PACKAGES}


def _check(path: Path, package: Package) -> None:
    if sha256(path) != package.sha256:
        raise DD2Error(f"{path} is not {package.spec} as it was published (its sha256 differs): "
                       "remove it and run the same command again.")


def _fetch(npm: str, package: Package, folder: Path) -> None:
    """`npm pack` into a temporary folder; the tarball is moved when it is whole."""
    print(f"emoji: fetching {package.spec}, {package.mib:g} MiB", flush=True)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".npm-", dir=folder) as tmp:
            _pack(npm, package, tmp)
            path = Path(tmp, package.file)
            if not path.is_file():
                raise DD2Error(f"npm pack {package.spec} wrote no {package.file}: bring npm up to "
                               "date, or pack it on another machine and use packages=FOLDER.")
            _check(path, package)
            os.replace(path, folder / package.file)


def _pack(npm: str, package: Package, where: str) -> None:
    try:
        done = subprocess.run([npm, "pack", package.spec, "--ignore-scripts", "--silent"],
                              cwd=where, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise DD2Error(f"npm pack {package.spec} took more than {PATIENCE} s: try again, or pack "
                       "it on another machine and use packages=FOLDER.") from None
    if done.returncode:
        raise DD2Error(f"npm pack {package.spec} failed (`npm pack {package.spec}` by hand says "
                       "why): look at the network, or pack it on another machine and use "
                       "packages=FOLDER.")


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of a tarball whose name is wanted; nothing is unpacked.

    Raises:
        DD2Error: the tarball is damaged, or a file in it larger than `MOST_MEMBER`.
    """
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                if not member.isfile() or not wanted(member.name):
                    continue
                if member.size > MOST_MEMBER:
                    raise DD2Error(f"{path} holds {member.name} of {member.size} bytes: it is "
                                   "foreign, remove it and run the same command again.")
                yield member.name, tar.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        raise DD2Error(f"{path} is no whole .tgz file: remove it and run the same command "
                       "again.") from None
