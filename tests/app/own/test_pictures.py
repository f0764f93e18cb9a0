"""What a browser sends as a picture, and what the tabs of own pictures and the gallery answer."""

import asyncio
import base64
import io
import re

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from app.html import present
from app.own import pictures
from app.own.card import card_button
from app.own.novelty import MISSING, index_of, nearest_html
from app.own.pictures import read_mask, read_picture
from app.own.share import FOLDER, PICTURE, SIZE, Rewrite, address_of, tags, with_tags
from app.own.tasks import own_seed
from app.serve.models import Models
from app.tabs.gallery import LAST_SEED, GalleryTab
from app.tabs.picture import PictureTab
from dd2core import Pipeline
from dd2core.inpaint import erased_tokens, inpaint
from tests.support import tiny, tiny_var
from tests.support.app_helpers import demo_pipe

BLANK = Image.new("RGBA", (16, 16))


def address_of_image(image: Image.Image, kind: str = "PNG") -> str:
    data = io.BytesIO()
    image.save(data, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def levels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))), int)


def half() -> Image.Image:
    mask = BLANK.copy()
    mask.paste((255, 0, 0, 255), (0, 8, 16, 16))
    return mask


@pytest.fixture(scope="module", params=[tiny.model, tiny_var.model])
def models(request):
    return Models.of(Pipeline(request.param()))


def refusal(call, *given) -> str:
    with pytest.raises(gr.Error) as error:
        call(*given)
    assert re.fullmatch(r"[A-Z][^.]{10,150}\.", error.value.message), error.value.message
    return error.value.message


# Pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_cut_square_and_has_the_models_channels(kind):
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste("red", (30, 0, 60, 30))
    red = read_picture(address_of_image(wide, kind), 16, 3)
    assert red.shape == (1, 3, 16, 16) and red.dtype == torch.uint8
    assert (red[0, 0] > 180).all() and (red[0, 1:] < 60).all()  # the middle alone
    assert read_picture(address_of_image(wide, kind), 16, 1).shape == (1, 1, 16, 16)
    clear = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    assert (read_picture(address_of_image(clear), 16, 1) == 0).all()  # what is clear is black


def test_what_is_no_picture_or_too_large_is_one_sentence():
    good = address_of_image(BLANK)
    for wrong in (None, 3, "", "x", {"path": "/etc/passwd"}, "file:///etc/passwd", good[:-30],
                  "data:image/png;base64,####", "data:image/svg+xml;base64,PHN2Zz4=",
                  address_of_image(Image.new("L", (9, 9)), "GIF"),
                  address_of_image(Image.new("L", (9, 9)), "GIF").replace("gif", "png")):
        assert "no picture" in refusal(read_picture, wrong, 16, 1)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    assert "too large: at most 24,000 characters" in refusal(
        read_picture, address_of_image(noise), 16, 1)
    large = address_of_image(Image.new("L", (pictures.MOST_SIDE + 1, 8)))
    assert "at most 1024 pixels" in refusal(read_picture, large, 16, 1)
    assert "Nothing is erased" in refusal(read_mask, good, 16)
    assert read_mask(address_of_image(half()), 16)[0, 8:].all()
    assert not read_mask(address_of_image(half()), 16)[0, :8].any()


# Your picture ------------------------------------------------------------------------------


def test_three_ways_fill_what_is_erased_and_the_seed_decides(models):
    tab, pipe = PictureTab(models), models.default.pipe
    sent = address_of_image(Image.linear_gradient("L").resize((16, 16)))
    given = (None, sent, address_of_image(half()), "cat", 3)
    kept, filled, query = tab.fill(*given)
    assert tab.fill(*given)[1] == filled != tab.fill(*given[:-1], 4)[1]
    assert "seed=3" in query and "tab=picture" in query
    mask = read_mask(given[2], pipe.image_size)
    erased = erased_tokens(pipe.teacher, mask)
    assert f"{int(erased.sum())} of {pipe.teacher.num_tokens} tokens erased" in kept
    pixels = read_picture(sent, pipe.image_size, 1)
    tokens = pipe.teacher.encode(pixels.float() / 127.5 - 1)
    by_teacher = inpaint(pipe, tokens, erased, [0], own_seed(3))
    shown = re.findall(r'src="(data:[^"]+)"', filled)
    assert shown[0] == present.data_uri(by_teacher.images[0]) and len(shown) == 3
    said = re.findall("<figcaption>(.*?)<", filled)
    counts = [re.findall(r"(\d+) by ([a-z ]+)", caption) for caption in said]
    assert [[who.strip() for _, who in way] for way in counts] == [
        ["the teacher"], ["one step", "the teacher"], ["one step"]]
    assert all(sum(int(n) for n, _ in way) == int(erased.sum()) for way in counts)


def test_a_looked_at_picture_says_what_is_kept_and_old_fillings_go(models):
    tab = PictureTab(models)
    sent = address_of_image(Image.linear_gradient("L").resize((16, 16)))
    for mask, begins in ((address_of_image(BLANK), "0 of"), ("", "0 of")):
        kept, filled = tab.look(None, sent, mask)
        assert begins in kept and "<img" not in filled
    for place, wrong, said in ((1, "nothing", "no picture"), (2, address_of_image(BLANK), "erased"),
                               (3, "unicorn", "Unknown class"), (4, -5, "seed")):
        given = [None, sent, address_of_image(half()), "cat", 3]
        given[place] = wrong
        assert said in refusal(tab.fill, *given)


# Gallery and novelty -----------------------------------------------------------------------


def test_each_picture_of_the_gallery_is_what_its_seed_paints_alone(models):
    tab, pipe = GalleryTab(models), models.default.pipe
    chosen, sheet, query = tab.paint(None, "dog", 7, "5")
    alone = present.data_uri(pipe.sample_one_step([1], seed=12).images[0])
    assert sheet.count("<img") == 64
    both = [levels(address) for address in (re.findall(r'src="([^"]+)"', sheet)[5], alone)]
    assert np.abs(both[0] - both[1]).max() <= 1  # rounded in a batch of another size
    assert "dog, seed 12" in chosen and "seed=12" in chosen and "tab=explore" in chosen
    assert MISSING in chosen and "picture=5" in query
    assert tab.further(None, 7) == 71 and tab.further(None, LAST_SEED) == 0
    for wrong in ("64", "-1", "x", None, 5, "9" * 400):
        assert "Unknown picture" in refusal(tab.paint, None, "dog", 7, wrong)
    assert "first seed" in refusal(tab.paint, None, "dog", LAST_SEED + 1, "0")


def test_the_shipped_index_finds_training_pictures_and_says_how_near_real_ones_come():
    pipe = demo_pipe()
    index = index_of(pipe)
    assert index.count == len(index.codes) == 60_000 and index is index_of(pipe)
    said = nearest_html(index, pipe.sample_one_step([8], 1).images[0], "Bag")
    assert said.count("<img") == 4 and f"{index.median:.2f}" in said and "all 60,000" in said


# Card and link -----------------------------------------------------------------------------


def test_the_card_waits_for_the_result():
    assert "disabled" in card_button(None)


def test_the_picture_of_a_link_is_of_the_told_size_and_filled_to_its_foot():
    with Image.open(FOLDER / PICTURE[1:]) as picture:
        assert picture.size == SIZE
        drawn = np.asarray(picture.convert("L")) < 248  # what is not paper
    for half in (drawn[:, :600], drawn[:, 600:]):
        assert half[500:].mean() > 0.1 and not half[612:].any()


def test_a_link_shows_our_own_title_description_and_picture():
    scope = {"scheme": "http", "root_path": "/sub", "headers": [
        (b"host", b"own.example"), (b"x-forwarded-proto", b"https")]}
    own = tags(address_of(scope)).decode()
    assert 'property="og:image" content="https://own.example/sub/share.png"' in own
    assert 'name="description"' in own and 'property="og:title"' in own
    bad = {**scope, "headers": [(b"host", b'"><script>'), (b"x-forwarded-proto", b"gopher")]}
    assert address_of(bad) == "http://localhost/sub/"
    page = (b'<html><head><meta charset="utf-8"><meta property="og:title" content="Gradio" />'
            b'<meta\n property="og:image"\n content=""/></head><body>og:title</body></html>')
    made = with_tags(page, own.encode()).decode()
    assert made.count("og:title") == 2 and "Gradio" not in made and "charset" in made
    assert made.count('"og:image"') == 1


async def _collect(messages):
    sent = []

    async def send(message):
        sent.append(message)

    rewrite = Rewrite(send, b"OWN")
    for message in messages:
        await rewrite(message)
    return sent


@pytest.mark.parametrize("kind, status", [(b"text/html", 200), (b"text/html", 404),
                                          (b"application/json", 200)])
def test_only_a_page_is_rewritten_and_its_length_fits(kind, status):
    start = {"type": "http.response.start", "status": status,
             "headers": [(b"content-type", kind), (b"content-length", b"19")]}
    parts = [{"type": "http.response.body", "body": b"<head></head", "more_body": True},
             {"type": "http.response.body", "body": b"><body>"}]
    sent = asyncio.run(_collect([start, *parts]))
    body = b"".join(m.get("body", b"") for m in sent)
    assert int(dict(sent[0]["headers"])[b"content-length"]) == len(body)
    assert (b"OWN" in body) == (kind == b"text/html" and status == 200)
