"""Names, classes, drawings and changes of emoji, one by one."""

import importlib.util
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dd2core.errors import DD2Error
from tests.support.emoji_sets import EMOJI, make_packages
from train.data.emoji import render as render_module
from train.data.emoji.augment import changed, rotate_hue
from train.data.emoji.catalogue import Emoji, as_codes, family_of, plain_name, read_catalogue
from train.data.emoji.classes import CLASS_OF, CLASSES, LEFT_OUT, MIRRORED, may_mirror
from train.data.emoji.drawings import open_catalogue, read_style
from train.data.emoji.packages import find_packages
from train.data.emoji.render import need_rasteriser, render
from train.data.emoji.split import held_out

needs_svg = pytest.mark.skipif(importlib.util.find_spec("resvg_py") is None,
                               reason="resvg-py is not installed (requirements-emoji.txt)")


def png(picture: Image.Image, form: str = "PNG") -> bytes:
    with io.BytesIO() as data:
        picture.save(data, form, **({"lossless": True} if form == "WEBP" else {}))
        return data.getvalue()


def test_codes_are_the_same_however_a_set_writes_them():
    assert {as_codes(t) for t in ("0039-FE0F-20E3", "39-20e3", "39_fe0f_20e3")} == {"0039-20e3"}
    with pytest.raises(ValueError, match="invalid literal"):
        as_codes("index")


def test_names_are_the_same_with_and_without_the_words_skin_tone():
    assert plain_name("santa-claus-dark-skin-tone") == plain_name("santa-claus-dark")
    assert plain_name("FATHER CHRISTMAS") == plain_name("father_christmas")


@pytest.mark.parametrize(("one", "other"), [
    ("1f9d1-200d-1f33e", "1f469-1f3fb-200d-1f33e"),  # farmers
    ("1f3c3", "1f3c3-1f3ff-200d-2642-200d-27a1"),  # runners, one facing right
    ("1f46d", "1f469-1f3fb-200d-1f91d-200d-1f468-1f3fc"),  # holding hands
    ("1f48f", "1f468-200d-2764-200d-1f48b-200d-1f468"),  # kissing
])
def test_women_men_and_persons_of_every_skin_tone_are_one_family(one, other):
    assert family_of(one) == family_of(other)
    assert family_of(one) != family_of("1f9d1-200d-1f373")


def test_there_are_20_to_30_classes_and_every_sub_category_is_in_one():
    subs = [sub for found in CLASSES.values() for sub in found]
    assert 20 <= len(CLASSES) <= 30 and len(subs) == len(set(subs)) == 98
    assert not set(LEFT_OUT) & set(subs) and set(subs) >= MIRRORED


@pytest.mark.parametrize("codes, sub", [
    ("1f1eb-1f1f7", "country-flag"), ("1f3c1", "flag"), ("1f520", "alphanum"), ("27a1", "arrow"),
    ("1f550", "time"), ("0031-20e3", "keycap"), ("2660", "game"), ("1f5fa", "place-map"),
    ("1f448", "hand-single-finger"), ("1f449", "hand-single-finger"), ("1f313", "sky & weather"),
    ("1f9d1-200d-1f3eb", "person-role"), ("1f3e8", "place-building"), ("1f4b6", "money"),
    ("1f4c5", "office"), ("1f3b5", "music"), ("1f4af", "emotion"), ("1f51e", "warning"),
    ("1f634", "face-sleepy"), ("1f695", "transport-ground"), ("1f9ea", "a new sub-category"),
])
def test_what_has_a_direction_or_letters_is_not_mirrored(codes, sub):
    assert not may_mirror(codes, sub)


@pytest.mark.parametrize("codes, sub", [
    ("1f436", "animal-mammal"), ("1f600", "face-smiling"), ("1f44d", "hand-fingers-closed"),
    ("1f697", "transport-ground"), ("1f9d1-200d-1f33e", "person-role"), ("1f34e", "food-fruit")])
def test_what_is_as_good_the_other_way_round_is_mirrored(codes, sub):
    assert may_mirror(codes, sub)


@pytest.mark.parametrize("data", [b"{", b"[1]", b'[{"unified": "1F600"}]', b'{"a": 1}'])
def test_a_damaged_emoji_json_is_one_sentence(data):
    with pytest.raises(DD2Error, match="is not as it was published"):
        read_catalogue(data)


def test_a_sub_category_without_class_is_refused():
    row = b'[{"unified": "1F600", "subcategory": "face-new", "sort_order": 1}]'
    with pytest.raises(DD2Error, match="'face-new': add it to a class"):
        read_catalogue(row)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_picture_is_put_on_white_in_the_middle_of_a_square(form):
    over = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    over.paste((200, 0, 0, 255), (0, 0, 40, 10))
    out = render(png(over, form), 80, "x")
    assert out.shape == (80, 80, 3) and out.dtype == np.uint8
    assert (out[:18] == 255).all() and (out[62:] == 255).all()  # above and below
    assert (out[28:32] == (200, 0, 0)).all() and (out[48:54] == 255).all()


def test_half_transparent_is_half_white():
    out = render(png(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), 8, "x")
    assert (out == 127).all()


@needs_svg
def test_an_svg_is_drawn_on_white_at_the_size_asked_for():
    svg = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10">'
           '<path fill="#00f" d="M0 0h10v10H0z"/></svg>')
    out = render(svg, 64, "x")
    assert out.shape == (64, 64, 3)
    assert (out[18:46, :31] == (0, 0, 255)).all() and (out[18:46, 33:] == 255).all()
    assert (out[:15] == 255).all()


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n123"])
def test_a_damaged_drawing_is_named(data):
    with pytest.raises(DD2Error, match="drawing noto-1f600 cannot be read"):
        render(data, 8, "noto-1f600")


def test_a_picture_of_another_kind_than_the_sets_have_is_refused():
    with pytest.raises(DD2Error, match="drawing x cannot be read"):
        render(png(Image.new("RGB", (8, 8)), "GIF"), 8, "x")


@needs_svg
def test_a_damaged_svg_is_named():
    with pytest.raises(DD2Error, match="drawing blob-1f600 cannot be read"):
        render('<svg viewBox="0 0 1 1">', 8, "blob-1f600")


def test_a_drawing_too_large_to_be_an_emoji_is_refused(monkeypatch):
    monkeypatch.setattr(render_module, "MOST_PIXELS", 63)
    with pytest.raises(DD2Error, match="8 × 8 pixels"):
        render(png(Image.new("RGB", (8, 8))), 8, "x")


def test_without_resvg_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DD2Error, match="pip install -r requirements-emoji.txt"):
        need_rasteriser()


def test_nothing_imports_the_svg_library_before_it_is_needed():
    code = "import sys, train.emoji; sys.exit('resvg_py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@needs_svg
def test_svg_icons_are_found_by_name_and_nothing_comes_twice(tmp_path, monkeypatch):
    found = find_packages(make_packages(tmp_path, monkeypatch, svg=True))
    known = open_catalogue(found)
    drawn = [d.codes for d in read_style("blob", found, known)]
    assert len(drawn) == len(set(drawn)) == len(EMOJI) - 2  # no hidden one, no bare skin tone
    for d in read_style("blob", found, known):
        assert (render(d.data, 16, d.name) < 200).any()


def test_a_copy_is_the_same_every_time_and_others_differ():
    x = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert (changed(x, "a", 1, False) == changed(x, "a", 1, False)).all()
    for other in (changed(x, "a", 2, False), changed(x, "b", 1, False), changed(x, "a", 1, True)):
        assert (changed(x, "a", 1, False) != other).any()


def test_hue_leaves_greys_and_brightness():
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    assert (rotate_hue(greys, 12) == greys).all()
    x = np.full((1, 1, 3), (180, 90, 60), np.uint8)
    y = rotate_hue(x, 12)
    weights = np.array([0.299, 0.587, 0.114])
    assert (x != y).any() and abs((x @ weights - y @ weights).item()) < 1


def emoji(n: int, category: str = "hearts", start: int = 0) -> list[Emoji]:
    return [Emoji(f"{category}{i}", start + i, category, True, f"{category}{i}") for i in range(n)]


@pytest.mark.parametrize(("n", "held"), [(2, 1), (5, 1), (14, 1), (15, 2), (100, 10)])
def test_a_tenth_of_a_class_is_held_out_and_at_least_one(n, held):
    assert len(held_out(emoji(n), {})) == held


def test_a_family_across_two_classes_is_in_one_part():
    found = emoji(10) + emoji(10, "shapes", 10)
    assert held_out(found, {"digest": {"hearts4", "shapes9"}}) >= {"hearts4", "shapes9"}


def test_the_order_of_the_emoji_does_not_matter():
    found = emoji(30)
    looks = {"a": {"hearts3", "hearts4"}, "b": {"hearts4", "hearts20"}}
    assert held_out(found, looks) == held_out(found[::-1], dict(reversed(looks.items())))


def test_every_class_name_is_plain():
    assert all(name.replace(" ", "").isalpha() and name.islower() for name in CLASSES)
    assert CLASS_OF["country-flag"] == "flags"
