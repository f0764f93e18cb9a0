"""Images and labels: Fashion-MNIST (IDX files) or anyone's own folder of class folders.

Small data sets are held in memory as uint8 (`load_data`); pictures can also be read batch by batch
(`find_pictures`), which is how ImageNet becomes tokens.
"""

import gzip
import hashlib
import http.client
import struct
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.store.files import LFS_POINTER, is_lfs_pointer
from train.settings.cli import ROOT

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)
FASHION_FILES = {  # name → sha256 of the uncompressed file
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CACHE = ROOT / ".cache" / "fashion-mnist"


@dataclass(frozen=True)
class Data:
    """A data set in memory.

    Attributes:
        images: training images, uint8 (N, channels, H, W).
        labels: int64 (N,).
        test_images, test_labels: the held-out part, as above.
        class_names: one name per label.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: list[str]


def _fashion_folder() -> Path:
    for folder in (DEBIAN_FOLDER, CACHE):
        if all(_find_idx(folder, name) for name in FASHION_FILES):
            return folder
    for name, digest in FASHION_FILES.items():
        _download(FASHION_URL + name + ".gz", CACHE / (name + ".gz"), digest)
    return CACHE


def _download(url: str, path: Path, digest: str) -> None:
    from dd2core.store.files import write_atomic

    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            data = reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise DD2Error(
            f"Fashion-MNIST is not here and {url} cannot be reached ({error}): install the Debian "
            "package dataset-fashion-mnist, or give data=FOLDER with the four IDX files."
        ) from None
    try:
        damaged = hashlib.sha256(gzip.decompress(data)).hexdigest() != digest
    except (OSError, EOFError, zlib.error):
        damaged = True
    if damaged:
        raise DD2Error(f"The download of {url} is damaged (sha256 differs): try again.")
    write_atomic(path, data)


def _find_idx(folder: Path, name: str) -> Path | None:
    for path in (folder / (name + ".gz"), folder / name):
        if path.is_file():
            return path
    return None


def _read_idx(folder: Path, name: str) -> Tensor:
    path = _find_idx(folder, name)
    if path is None:
        raise DD2Error(f"{folder} has no {name}(.gz): all four IDX files are needed.")
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        (magic,) = struct.unpack(">I", raw[:4])
        shape = struct.unpack(f">{magic & 255}I", raw[4 : 4 + 4 * (magic & 255)])
        flat = np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape))
        return torch.from_numpy(flat.reshape(shape).copy())
    except (OSError, EOFError, zlib.error, struct.error, ValueError):
        if is_lfs_pointer(path):
            raise DD2Error(f"{path} is {LFS_POINTER}.") from None
        raise DD2Error(f"{path} is not a whole IDX file: copy it again.") from None


def _load_idx(folder: Path) -> Data:
    names = list(FASHION_FILES)
    train, train_y, test, test_y = (_read_idx(folder, name) for name in names)
    for x, y, name in ((train, train_y, names[1]), (test, test_y, names[3])):
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise DD2Error(f"{folder}: {name} does not fit its images: copy the files again.")
        if not len(x):
            raise DD2Error(f"{folder} holds no images for {name}: copy the files again.")
    empty = (train_y.long().bincount(minlength=int(test_y.max()) + 1) == 0).nonzero()[:, 0]
    if len(empty):
        raise DD2Error(f"{folder}: class {int(empty[0])} has no training images: number the "
                       "classes from 0 without gaps.")
    classes = list(FASHION_CLASSES) if int(train_y.max()) == 9 else [
        str(i) for i in range(int(train_y.max()) + 1)
    ]
    return Data(train[:, None], train_y.long(), test[:, None], test_y.long(), classes)


