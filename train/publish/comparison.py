"""One picture: the teacher's samples beside the one-step generator's."""

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dd2core.store.files import read_json, write_atomic


def comparison(results: Path, out: Path) -> None:
    """One picture: the teacher's first samples left, the one-step generator's right."""
    left, right = (Image.open(results / f"{name}.png") for name in ("teacher", "one_step"))
    gap, head = 24, 26
    canvas = Image.new("RGB", (left.width + gap + right.width, left.height + head), "white")
    draw = ImageDraw.Draw(canvas)
    passes = read_json(next(results.glob("teacher*.json")))["passes"]
    names = (f"AR teacher: {passes} passes", "DD2: one pass")
    for x, picture, name in zip((0, left.width + gap), (left, right), names, strict=True):
        canvas.paste(picture, (x, head))
        draw.text((x, 4), name, fill="black", font=ImageFont.load_default(16))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    write_atomic(out, buffer.getvalue())
