"""Image files, archives and animations for visitors and programs, never rewritten.

Left to itself, Gradio names the file of an image by its content and writes it again whenever the
same image comes back: each message of `/compare` repeats the one-step images, and all callers
with one seed get the same ones. Whoever is downloading at that moment would get half a file.
"""

import contextlib
import io
import json
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from dd2core.store.names import as_file_name
from dd2core.tools.images import as_pillow, gif, png, zoom_to

ANIMATION = 224  # least side of an animation, in pixels
FRAME_MS = 70
EVERY = 600.0  # seconds, between two looks for empty folders
_KEEPING = threading.Lock()
_tidied = -EVERY  # when they were last looked for


def keep(image: Image.Image) -> str:
    """Path of `image` in Gradio's cache, put there by an atomic rename unless it is there."""
    return keep_bytes(png(image), "image.png")


def keep_bytes(data: bytes, name: str) -> str:
    """Path of a file of that content and name in Gradio's cache; never one outside of it, whatever
    a model calls itself."""
    stem, _, ending = name.rpartition(".")
    name = f"{as_file_name(stem)}.{ending}"
    with tempfile.TemporaryDirectory() as folder, _KEEPING:
        path = Path(folder, name)
        path.write_bytes(data)
        _tidy(Path(get_upload_folder()))
        return save_file_to_cache(path, get_upload_folder())


def _tidy(cache: Path) -> None:
    """Remove folders that have long been empty: Gradio deletes old files and leaves those."""
    global _tidied
    if time.monotonic() - _tidied < EVERY or not cache.is_dir():
        return
    _tidied = time.monotonic()
    for folder in cache.iterdir():
        with contextlib.suppress(OSError):  # it is a file, or not empty
            if time.time() - folder.stat().st_mtime > EVERY:
                folder.rmdir()


def archive(groups: dict[str, np.ndarray], names: list[str], numbers: dict[str, Any]) -> bytes:
    """A ZIP of PNG files `GROUP/03-ankle-boot.png`, and of the numbers as JSON."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as bundle:
        for group, images in groups.items():
            for i, (image, name) in enumerate(zip(images, names, strict=True)):
                plain = as_file_name(name.lower(), "image")
                _add(bundle, f"{group}/{i + 1:02d}-{plain}.png", png(as_pillow(image)))
        _add(bundle, "numbers.json", json.dumps(numbers, indent=1).encode())
    return data.getvalue()


def _add(bundle: zipfile.ZipFile, name: str, content: bytes) -> None:
    bundle.writestr(zipfile.ZipInfo(name), content)  # no clock: equal content, equal file


def animation(images: np.ndarray) -> bytes:
    """A GIF that goes through the images (n, H, W, C) and back, for ever."""
    frames = [as_pillow(image, zoom_to(image, ANIMATION)) for image in images]
    return gif([*frames, *frames[-2:0:-1]], FRAME_MS)


def still(image: np.ndarray) -> bytes:
    """A PNG of one image (H, W, C), as large as in an animation."""
    return png(as_pillow(image, zoom_to(image, ANIMATION)))
