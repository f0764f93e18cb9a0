"""One picture file → 8-bit RGB: upright, on white, scaled by its range; or one sentence.

A file that cannot be read whole is refused and named, never skipped: 0 bytes, truncated, damaged,
a Git-LFS pointer, more pixels than `MOST_PIXELS`. Of animations and pages the first is taken.
"""

import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dd2core.errors import DD2Error
from dd2core.store.files import is_lfs_pointer
from train.data.notes import say_once, shown

# Only these decoders are ever asked, whatever a file's name: others run programs (EPS) or take any
# bytes for a picture (TGA).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000")
MOST_PIXELS = 89_478_485  # Pillow's own limit (a quarter of a GiB of RGB), at which it only warns
MOST_NARROW = 100  # long side / short side
ADVICE = {".heic": "JPEG", ".heif": "JPEG", ".hif": "JPEG"}

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # see MOST_PIXELS
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # on odd tags of files


def endings() -> frozenset[str]:
    """The endings, `.jpg` and the like, of the files that this Pillow reads as pictures."""
    known = Image.registered_extensions()
    return frozenset(e for e, kind in known.items() if kind in FORMATS and kind in Image.OPEN)


def read_rgb(path: str) -> Image.Image:
    """The picture in a file, mode RGB, turned as its EXIF orientation says.

    Transparent pixels are put on white. 16 bits, and floats from 0 to 1 or 0 to 255, are scaled to
    8 bits by that range, not by the picture's own.

    Raises:
        DD2Error: the file is no whole picture, too large, or its numbers have no known range.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check_size(picture, path)
            ImageOps.exif_transpose(picture, in_place=True)
            return _rgb(picture, path)
    except DD2Error:
        raise
    except Exception as error:  # damaged files make Pillow raise many kinds; all mean the same
        raise DD2Error(f"{shown(path)} cannot be read as a picture ({_reason(path, error)}): "
                       "replace or remove it.") from None


def _reason(path: str, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"it claims more than {MOST_PIXELS} pixels"
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return "it is empty"
    if is_lfs_pointer(path):
        return "it is a Git-LFS pointer, `git lfs pull` gets the file"
    if isinstance(error, UnidentifiedImageError):
        return "it is of no kind that is read here, or damaged"
    return str(error).partition("\n")[0] or type(error).__name__


def _check_size(picture: Image.Image, path: str) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise DD2Error(f"{shown(path)} has {width} × {height} pixels, more than {MOST_PIXELS}: "
                       "make it smaller or remove it.")
    if max(width, height) > MOST_NARROW * min(width, height):
        raise DD2Error(f"{shown(path)} has {width} × {height} pixels, too narrow for a square: "
                       "cut it or remove it.")


def _rgb(picture: Image.Image, path: str) -> Image.Image:
    if picture.mode == "F" or picture.mode.startswith("I"):
        return Image.fromarray(_eight_bits(picture, path)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    over = picture.convert("RGBA")
    if over.getextrema()[3][0] == 255:  # nothing shines through
        return over.convert("RGB")
    say_once(f"transparent pixels are put on white (first in {shown(path)})", "white")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _eight_bits(picture: Image.Image, path: str) -> np.ndarray:
    """Numbers of more than 8 bits → uint8 (H, W)."""
    x, hidden = np.asarray(picture).astype(np.float64), picture.info.get("transparency")
    top = _range(picture, x)
    if top is None or not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= top):
        raise DD2Error(f"{shown(path)} holds numbers from {x.min():g} to {x.max():g}, whose range "
                       "is not known: save it with 8 or 16 bits, or floats from 0 to 1.")
    tags = getattr(picture, "tag_v2", {})
    out = x / top if tags.get(262) != 0 else 1 - x / top  # TIFF's WhiteIsZero
    if isinstance(hidden, int):  # the one grey of a PNG that stands for nothing
        out[x == hidden] = 1
        say_once(f"transparent pixels are put on white (first in {shown(path)})", "white")
    return (out * 255).round().astype(np.uint8)


def _range(picture: Image.Image, x: np.ndarray) -> float | None:
    """What stands for white; None where nothing says it."""
    if picture.mode == "F":
        return 1.0 if x.max() <= 1 else 255.0
    bits = getattr(picture, "tag_v2", {}).get(258, (16,))[0]  # TIFF's BitsPerSample
    signed = getattr(picture, "tag_v2", {}).get(339, (1,))[0] == 2  # TIFF's SampleFormat
    return None if bits > 16 else float(2 ** (bits - signed) - 1)
