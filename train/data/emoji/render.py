"""A drawing (PNG, WebP, SVG) → a square RGB picture on white.

SVG needs resvg-py (requirements-emoji.txt), which nothing else imports."""

import importlib.util
import io

import numpy as np
from PIL import Image

from dd2core.errors import DD2Error

FORMATS = ("PNG", "WEBP")
MOST_PIXELS = 2**22


def need_rasteriser() -> None:
    """Raise DD2Error unless SVG can be drawn."""
    if importlib.util.find_spec("resvg_py") is None:
        raise DD2Error("Three of the emoji sets are SVG, which resvg-py draws: run `pip install "
                       "-r requirements-emoji.txt` first.")


def render(data: str | bytes, size: int, what: str) -> np.ndarray:
    """A drawing, whole and in the middle of a white square, uint8 (size, size, 3).

    Args:
        data (str | bytes): an SVG's text, or the bytes of a PNG or WebP file.
        size (int): pixels a side.
        what (str): which drawing it is, for the message.

    Raises:
        DD2Error: it cannot be drawn.
    """
    try:
        if isinstance(data, str):
            data = _rasterise(data, size)
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"{picture.width} × {picture.height} pixels")
            return np.asarray(_squared(on_white(picture), size))
    except DD2Error:
        raise
    except Exception as error:  # damaged files make Pillow and resvg raise many kinds
        raise DD2Error(f"The drawing {what} cannot be read ({str(error).splitlines()[:1]}): remove "
                       "its package's .tgz file and run the same command again.") from None


def _rasterise(text: str, size: int) -> bytes:
    """PNG of the longer side's length `size`."""
    need_rasteriser()
    import resvg_py

    width, height = map(float, text.partition('viewBox="')[2].partition('"')[0].split()[2:])
    side = {"width": size} if width >= height else {"height": size}
    return bytes(resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True, **side))


def on_white(picture: Image.Image) -> Image.Image:
    """Mode RGB; what is transparent is white."""
    over = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _squared(picture: Image.Image, size: int) -> Image.Image:
    scale = size / max(picture.size)
    if scale != 1:
        sides = [max(1, round(n * scale)) for n in picture.size]
        picture = picture.resize(sides, Image.Resampling.LANCZOS)
    if picture.size == (size, size):
        return picture
    square = Image.new("RGB", (size, size), "white")
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square
