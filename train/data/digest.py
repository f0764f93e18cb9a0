"""Whether a data set is still the same one: a digest of what there is to be read."""

import hashlib
import os
from pathlib import Path

from dd2core.store.files import sha256
from train.data.fashion import FASHION_FILES, _find_idx
from train.data.source import _folder, find_pictures
from train.settings.schema import Config


def data_digest(cfg: Config) -> str:
    """Hex digest of the data that `cfg.data` names.

    Of IDX files their content; of pictures, of which there may be a million, each one's path in
    the folder, size and time of change. `fashion-mnist` is always the same.

    Raises:
        DD2Error: as `find_pictures`.
    """
    if cfg.data == "fashion-mnist":
        return cfg.data
    pictures, digest = find_pictures(cfg), hashlib.sha256()
    folder = _folder(cfg)
    if pictures is None:
        lines = [sha256(path) for name in FASHION_FILES if (path := _find_idx(folder, name))]
    else:
        lines = sorted(_line(path, folder) for path in pictures.paths)
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _line(path: str, folder: Path) -> str:
    found = os.stat(path)
    return f"{os.path.relpath(path, folder)} {found.st_size} {found.st_mtime_ns}"
