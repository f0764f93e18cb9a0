"""What samples are compared with: a folder of pictures, or an .npz of statistics and images.

The reference batches of guided-diffusion (ADM) hold both: `mu` and `sigma` of Inception's 2048
features over the whole training set, and 10,000 of its images as `arr_0`.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.store.files import LFS_POINTER, is_lfs_pointer
from train.data.pictures import open_folder
from train.measure.stream import FEWEST, batches


@dataclass(frozen=True)
class Reference:
    """A reference set.

    Attributes:
        name: what it is, for the results.
        mu, sigma: mean (D,) and covariance (D, D) of its features, float64; None: take them from
            its images.
        read: makes an iterator of its images, uint8 (n, 3, size, size); None: there are none.
        n: how many images `read` gives.
    """

    name: str
    mu: np.ndarray | None
    sigma: np.ndarray | None
    read: Callable[[], Iterator[Tensor]] | None
    n: int


def open_reference(where: str | None, size: int, features: int, batch: int = 64) -> Reference:
    """The reference that `reference=` names.

    Args:
        where (str | None): a folder with pictures at any depth, which are resized and cropped to
            squares as for training; or an .npz with `mu` and `sigma`, or `arr_0` (images, uint8
            (N, size, size, 3)), or all three.
        size (int): pixels a side of the samples.
        features (int): D of the statistics.
        batch (int): images that are read at once.

    Raises:
        DD2Error: nothing there, or something else.
    """
    if where is None:
        raise DD2Error("reference= is missing: give a folder of pictures (ImageNet's val), or an "
                       ".npz with mu and sigma, as VIRTUAL_imagenet256_labeled.npz.")
    path = Path(where).expanduser()
    if path.is_dir():
        pictures = open_folder(path, size)
        n = len(pictures.paths)
        _enough(where, n)
        return Reference(f"{n} pictures of {path.name}", None, None,
                         lambda: (x for x, _ in pictures.read("all", batch)), n)
    if not path.is_file():
        raise DD2Error(f"reference={where} is not there: give a folder of pictures or an .npz.")
    return _open_npz(path, where, size, features, batch)


def _open_npz(path: Path, where: str, size: int, features: int, batch: int) -> Reference:
    found = _read(path, where)
    if not found:
        raise DD2Error(f"reference={where} has neither mu and sigma nor arr_0: give another .npz, "
                       "or a folder of pictures.")
    mu, sigma, images = (found.get(key) for key in ("mu", "sigma", "arr_0"))
    if mu is not None:
        fits = mu.shape == (features,) and sigma.shape == (features, features)
        if not fits or not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
            raise DD2Error(f"reference={where}: mu and sigma must be the mean ({features},) and "
                           f"covariance ({features}, {features}) of Inception's features, not of "
                           f"shapes {mu.shape} and {sigma.shape} or not finite.")
    name = path.name if mu is None else f"statistics in {path.name}"
    if images is None:
        return Reference(name, mu, sigma, None, 0)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise DD2Error(f"reference={where}: arr_0 must be images, uint8 (N, {size}, {size}, 3) as "
                       f"the samples are, not {images.dtype} {images.shape}: see resize=.")
    _enough(where, len(images))
    return Reference(f"{name}, {len(images)} images", mu, sigma, lambda: batches(images, batch),
                     len(images))


def _read(path: Path, where: str) -> dict[str, np.ndarray]:
    """The arrays mu, sigma (both or neither, float64) and arr_0, those that the file has."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {k: file[k] for k in ("mu", "sigma", "arr_0") if k in file}
        for key in found.keys() & {"mu", "sigma"}:
            found[key] = found[key].astype(np.float64)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError,
            AttributeError):  # no zip, half of one, a bare .npy, pickled objects
        if is_lfs_pointer(path):
            raise DD2Error(f"reference={where} is {LFS_POINTER}.") from None
        raise DD2Error(f"reference={where} is not a whole .npz of arrays: copy it again.") from None
    if ("mu" in found) != ("sigma" in found):
        raise DD2Error(f"reference={where} has only one of mu and sigma: both are needed.")
    return found


def _enough(where: str, n: int) -> None:
    if n < FEWEST:
        raise DD2Error(f"reference={where} has {n} pictures: at least {FEWEST} are needed.")
