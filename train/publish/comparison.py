"""One picture: the teacher's samples beside the one-step generator's."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dd2core.errors import DD2Error
from dd2core.results.collection import Results
from dd2core.results.tables import few_steps
from dd2core.store.files import write_atomic
from dd2core.tools.images import png

GAP, HEAD = 24, 26  # pixels between the sheets, and above them
MOST = 500_000  # bytes; a larger picture gets a palette of 256 colours


def comparison(results: Results, out: Path) -> None:
    """Write a PNG with the teacher's first samples left, the one-step generator's right.

    Raises:
        DD2Error: one of the two has not been measured, or its samples are not there.
    """
    sheets = {name: (results.picture(m), m) for _, name, m in few_steps(results)}
    missing = [name for name in ("teacher", "one_step") if sheets.get(name, (None,))[0] is None]
    if missing:
        raise DD2Error(f"{results.folder} has no samples of {' and '.join(missing)}: measure them "
                       "with train.evaluate and export again.")
    (left, teacher), (right, _) = sheets["teacher"], sheets["one_step"]
    pictures = [Image.open(path) for path in (left, right)]
    names = (f"AR teacher: {teacher.passes} passes", "DD2: one pass")
    size = pictures[0].width + GAP + pictures[1].width, pictures[0].height + HEAD
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for x, picture, name in zip((0, pictures[0].width + GAP), pictures, names, strict=True):
        canvas.paste(picture, (x, HEAD))
        draw.text((x, 4), name, fill="black", font=ImageFont.load_default(16))
    data = png(canvas)
    write_atomic(out, data if len(data) <= MOST else png(canvas.quantize(256)))
