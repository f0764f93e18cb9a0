"""One picture file becomes the pixels that its author saw, or one sentence."""

import io
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from dd2core.errors import DD2Error
from tests.support.train_helpers import PICTURES, config
from train.data import notes, pixels
from train.data.pictures import open_folder
from train.data.pixels import endings, read_rgb
from train.data.source import load_data

DISC = PICTURES / "disc" / "00.png"


def read(path) -> np.ndarray:
    """(H, W, 3) as integers."""
    picture = read_rgb(str(path))
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def refused(path) -> str:
    with pytest.raises(DD2Error) as error:
        read_rgb(str(path))
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


@pytest.fixture(autouse=True)
def unsaid(monkeypatch):
    monkeypatch.setattr(notes, "_said", set())


# Orientation ------------------------------------------------------------------------------------

@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(orientation, ending, tmp_path):
    source = Image.new("RGB", (16, 24), "black")
    source.paste("white", (0, 0, 8, 8))  # upper left
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
              4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
              6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
              8: Image.Transpose.ROTATE_270}.get(orientation)
    stored = source if turned is None else source.transpose(turned)
    path = tmp_path / f"a{ending}"
    stored.save(path, exif=exif)
    x = read(path)
    assert x.shape == (24, 16, 3)
    assert x[2:6, 2:6].min() > 200 and x[12:].max() < 60 and x[:, 10:].max() < 60


# Transparency -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("mode", "ending"), [
    *((mode, ".png") for mode in ("RGBA", "LA", "P", "L", "RGB", "1")),
    *((mode, ".webp") for mode in ("RGBA", "LA", "P")), ("RGBA", ".gif"), ("P", ".gif")])
def test_hidden_colours_become_white(mode, ending, tmp_path, capsys):
    rgba = Image.new("RGBA", (16, 16), (0, 0, 0, 0))  # hidden black
    rgba.paste((200, 200, 200, 255), (0, 0, 8, 16))
    path = tmp_path / f"a{ending}"
    if mode == "RGBA":
        rgba.save(path, exact=True, lossless=True)
    elif mode == "LA":
        rgba.convert("LA").save(path, exact=True, lossless=True)
    elif mode == "P":
        p = Image.new("P", (16, 16), 1)
        p.putpalette([200, 200, 200, 0, 0, 0])
        p.paste(0, (0, 0, 8, 16))
        p.info["transparency"] = 1
        p.save(path, exact=True, lossless=True)
    elif mode == "1":
        one = Image.new("1", (16, 16), 0)
        one.paste(1, (0, 0, 8, 16))
        one.save(path, transparency=0)
    else:
        rgba.convert("RGB").convert(mode).save(path, transparency=0 if mode == "L" else (0, 0, 0))
    x = read(path)
    assert x[:, 8:].min() == 255
    assert abs(x[:, :8] - (255 if mode == "1" else 200)).max() <= 2
    read(path)
    said = capsys.readouterr().out
    assert said == f"data: transparent pixels are put on white (first in {path})\n"


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 100, 200, 128)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[0, 0].tolist() == [127, 177, 227]


def test_a_palette_with_an_alpha_for_each_colour(tmp_path):
    p = Image.new("P", (8, 8), 0)
    p.putpalette([10, 20, 30, 0, 0, 0])
    p.paste(1, (0, 0, 4, 8))
    p.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    x = read(tmp_path / "a.png")
    assert x[0, 0].tolist() == [255, 255, 255] and x[0, 7].tolist() == [10, 20, 30]


def test_an_alpha_that_hides_nothing_is_not_mentioned(tmp_path, capsys):
    Image.open(DISC).convert("RGBA").save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png") == read(DISC)).all() and capsys.readouterr().out == ""


# More than eight bits ---------------------------------------------------------------------------

@pytest.mark.parametrize("ending", [".png", ".tif", ".pgm", ".jp2"])
def test_sixteen_bits_are_scaled_by_their_range(ending, tmp_path):
    values = np.array([[0, 1000, 32768, 65535]] * 8, np.uint16).repeat(2, 1)
    path = tmp_path / f"a{ending}"
    Image.fromarray(values).save(path, **({"irreversible": False} if ending == ".jp2" else {}))
    assert read(path)[0, ::2, 0].tolist() == [0, 4, 128, 255]


def test_twelve_bits_count_to_4095(tmp_path):
    raw = b"".join(bytes([v >> 4, (v & 15) << 4 | v >> 8, v & 255]) for v in [4095, 2048] * 2)
    head = ImageFileDirectory_v2()
    for tag, value in ((256, 4), (257, 2), (258, 12), (259, 1), (262, 1), (277, 1), (278, 2)):
        head[tag] = value
    head[273], head[279] = 0, len(raw)  # written as behind this head
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + head.tobytes(8) + raw)
    assert read(path)[0, ::2, 0].tolist() == [255, 128]


def test_white_is_zero_where_the_file_says_so(tmp_path):
    values = np.array([[0, 65535]] * 2, np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as picture:
        assert picture.tag_v2[262] == 0
    assert read(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(("values", "shown"), [
    ([0, 0.5, 1], [0, 128, 255]), ([0, 100, 255], [0, 100, 255]), ([0, 0.25, 0.3], [0, 64, 77])])
@pytest.mark.parametrize("ending", [".tif", ".pfm"])
def test_floats_are_scaled_by_their_range(values, shown, ending, tmp_path):
    path = tmp_path / f"a{ending}"
    Image.fromarray(np.array([values] * 3, np.float32)).save(path)
    assert read(path)[0, :, 0].tolist() == shown


@pytest.mark.parametrize("values", [[0, 1000.5], [-1, 1], [0, np.nan], [0, np.inf]])
def test_floats_of_no_known_range_are_refused(values, tmp_path):
    Image.fromarray(np.array([values] * 2, np.float32)).save(tmp_path / "a.tif")
    assert "whose range is not known" in refused(tmp_path / "a.tif")


def test_whole_numbers_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 200]] * 2, np.int32)).save(tmp_path / "a.tif")
    assert "from 0 to 200, whose range is not known" in refused(tmp_path / "a.tif")


def test_the_grey_that_a_16_bit_png_hides_becomes_white(tmp_path):
    values = np.array([[500, 65535, 1000]] * 3, np.uint16)
    data = io.BytesIO()
    Image.fromarray(values).save(data, "PNG")
    raw, chunk = data.getvalue(), b"tRNS" + (500).to_bytes(2, "big")
    at = raw.index(b"IDAT") - 4
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(raw[:at] + chunk + raw[at:])
    assert read(tmp_path / "a.png")[0, :, 0].tolist() == [255, 255, 4]


# Kinds and damage -------------------------------------------------------------------------------

@pytest.mark.parametrize("ending", [".gif", ".jfif", ".webp", ".bmp", ".tiff", ".avif", ".jpeg",
                                    ".JPG", ".ppm", ".jp2"])
def test_every_kind_that_pillow_reads_is_read(ending, tmp_path):
    if ending.lower() not in endings():
        pytest.skip(f"this Pillow does not read {ending}")
    kind = {".jfif": "JPEG", ".JPG": "JPEG"}.get(ending)
    for i in range(40):
        (tmp_path / "p" / "a").mkdir(parents=True, exist_ok=True)
        Image.open(PICTURES / "disc" / f"{i % 20:02d}.png").save(
            tmp_path / "p" / "a" / f"{i:02d}{ending}", kind)
    found = load_data(config(f"data={tmp_path / 'p'}", "channels=3"))
    assert len(found.images) == 36 and len(found.test_images) == 4
    assert (read(tmp_path / "p" / "a" / f"00{ending}") - read(DISC)).__abs__().mean() < 8
    assert len(open_folder(tmp_path / "p", 16).paths) == 40


def png(width: int, height: int) -> bytes:
    """The head of a PNG of that size, without its pixels."""
    def chunk(name, data):
        return (len(data).to_bytes(4, "big") + name + data
                + zlib.crc32(name + data).to_bytes(4, "big"))

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))
            + chunk(b"IEND", b""))


@pytest.mark.parametrize(("content", "says"), [
    (b"", "it is empty"),
    (b"not a picture", "it is of no kind that is read here, or damaged"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git-LFS pointer"),
    (DISC.read_bytes()[:100], "cannot be read as a picture"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "of no kind that is read here"),
    (bytes(100), "of no kind that is read here"),  # TGA would take it
    (png(20_000, 20_000), "it claims more than 89478485 pixels"),
    (png(10_000, 10_000), "10000 × 10000 pixels, more than"),
    (png(20_000, 10), "too narrow for a square"),
])
def test_what_is_no_whole_picture_is_named(content, says, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        sentence = refused(path)
    assert says in sentence and str(path) in sentence


@pytest.mark.parametrize("ending", [".jpg", ".gif", ".webp", ".bmp", ".tif", ".avif", ".jp2"])
def test_half_a_file_is_refused(ending, tmp_path):
    path = tmp_path / f"a{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read as a picture" in refused(path)


def test_only_the_listed_decoders_are_asked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pixels.Image, "open", lambda path, formats: asked.append(formats))
    refused(DISC)
    assert asked == [pixels.FORMATS] and not {"EPS", "TGA", "WMF"} & set(pixels.FORMATS)


def test_the_name_in_a_sentence_is_one_line(tmp_path):
    path = tmp_path / "a\nb\x1b[31m.png"
    path.write_bytes(b"")
    assert "a\\nb\\x1b[31m.png" in refused(path)


def test_pixels_of_plain_pictures_are_pillows_own():
    for path in sorted(PICTURES.rglob("*.png")):
        assert (read(path) == np.asarray(Image.open(path).convert("RGB"))).all()
    x = load_data(config("channels=3", "image_size=28")).images[0]
    path = PICTURES / "cross" / "00.png"
    plain = Compose([Resize(28, antialias=True), CenterCrop(28), PILToTensor()])
    assert torch.equal(x, plain(Image.open(path).convert("RGB")))
