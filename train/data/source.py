"""What `data=` names: Fashion-MNIST, IDX files, or a folder of class folders."""

from pathlib import Path

import torch

from dd2core.errors import DD2Error
from train.data.enough import check_enough
from train.data.fashion import Data, _fashion_folder, _find_idx, _load_idx
from train.data.pictures import Pictures, open_pictures
from train.settings.schema import Config


def load_data(cfg: Config, test_only: bool = False) -> Data:
    """The data set that `cfg.data` names, in memory.

    `fashion-mnist`: Debian's package, else a download whose sha256 is checked. A folder with the
    four IDX files, or one of class folders with pictures (see `find_pictures`).

    Args:
        cfg (Config): the experiment.
        test_only (bool): leave out the training images where they are pictures: ImageNet's do not
            fit in memory.

    Raises:
        DD2Error: the folder or its files are missing, or a picture cannot be read.
    """
    pictures = find_pictures(cfg)
    if pictures is not None:
        data = _in_memory(pictures, cfg, test_only)
    else:
        data = _load_idx(_fashion_folder() if cfg.data == "fashion-mnist" else _folder(cfg))
        check_enough(f"data={cfg.data}", len(data.images), len(data.test_images))
    got = (data.images.shape[1], data.images.shape[-1])
    if got != (cfg.channels, cfg.image_size):
        raise DD2Error(
            f"The images have {got[0]} channels and {got[1]} pixels a side: set channels={got[0]} "
            f"image_size={got[1]}."
        )
    return data


def _in_memory(pictures: Pictures, cfg: Config, test_only: bool) -> Data:
    none = torch.empty(0, cfg.channels, cfg.image_size, cfg.image_size, dtype=torch.uint8)
    found = {part: [none] if test_only and part == "train" else
             [x for x, _ in pictures.read(part)] for part in ("train", "test")}
    labels = {part: pictures.labels[pick] for part, pick in pictures.parts.items()}
    return Data(torch.cat(found["train"]), labels["train"], torch.cat(found["test"]),
                labels["test"], pictures.class_names)


def find_pictures(cfg: Config) -> Pictures | None:
    """The pictures of `data=FOLDER`; None where data is none of class folders.

    Raises:
        DD2Error: the folder is missing, or see `open_pictures`.
    """
    if cfg.data == "fashion-mnist":
        return None
    folder = _folder(cfg)
    if not folder.is_dir():
        raise DD2Error(f"data={cfg.data} is no folder: give one with a sub-folder per class.")
    if _find_idx(folder, "train-images-idx3-ubyte") is not None:
        return None
    pictures = open_pictures(folder, cfg.image_size, cfg.channels, cfg.tokens.transform)
    check_enough(f"data={cfg.data}", *(len(pictures.parts[part]) for part in ("train", "test")))
    return pictures


def _folder(cfg: Config) -> Path:
    try:
        return Path(cfg.data).expanduser()
    except RuntimeError:  # ~nobody/pictures
        raise DD2Error(f"data={cfg.data} is below the home of a user who is not known: give the "
                       "whole path.") from None
