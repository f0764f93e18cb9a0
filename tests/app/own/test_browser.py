"""Own pictures, gallery, card and the pictures that move, at desk and at phone width."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from tests.support.browser_helpers import ARTIFACTS, images, is_tidy, keep, open_tab, source

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("width", [1280, 360])]
FILLED = "#filled .dd2-way:nth-child({}) img"
ERASED = """() => { const m = document.querySelectorAll("#sketch canvas")[1];
  const a = m.getContext("2d").getImageData(0, 0, m.width, m.height).data;
  return a.filter((v, i) => i % 4 == 3 && v > 127).length; }"""


def png(side: int = 300) -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(data, "PNG")
    return data.getvalue()


def test_a_picture_is_brought_erased_with_the_brush_and_filled(visit, shown_pipe, width):
    tab = visit("tab=picture&class=Bag&seed=5", width)
    tab.wait_for_selector("#kept img")
    assert tab.evaluate(ERASED) == 28 * 14  # the lower half, to begin with
    tab.click("#fill")
    tab.wait_for_selector(FILLED.format(3))
    passes = tab.inner_text("#filled").replace("\n", " ")
    assert "28 by the teacher · 28 passes" in passes and "28 by one step · 1 pass" in passes
    assert "14 by one step, 14 by the teacher · 15 passes" in passes and is_tidy(tab)
    keep(tab, f"picture-{width}")
    before = source(tab, "#kept")
    tab.set_input_files("#sketch [type=file]", {
        "name": "own.png", "mimeType": "image/png", "buffer": png()})
    tab.wait_for_function("s => document.querySelector('#kept img').src !== s", arg=before)
    tab.wait_for_selector("#kept >> text=0 of 49 tokens erased")
    assert tab.evaluate(ERASED) == 0 and not images(tab, "#filled")
    tab.click("#fill")
    tab.wait_for_selector(".dd2-no >> text=Nothing is erased: brush over a part")
    mask = tab.locator("#sketch canvas").last
    mask.scroll_into_view_if_needed()
    box = mask.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2 + 10, box["y"] + box["height"] / 2)
    tab.mouse.up()
    tab.wait_for_function("!document.querySelector('#kept').innerText.includes(' 0 of 49')")
    assert 0 < tab.evaluate(ERASED) < 120
    tab.set_input_files("#sketch [type=file]", {
        "name": "own.png", "mimeType": "image/png", "buffer": b"no picture"})
    tab.wait_for_selector(".dd2-sketch-no >> text=That file is no picture")


def test_a_picture_of_the_gallery_is_chosen_held_against_training_and_opened(visit, width):
    tab = visit("tab=gallery&class=Bag&seed=100", width)
    tab.wait_for_selector("#gallery img")
    assert len(images(tab, "#gallery")) == 64
    tab.click("#gallery [data-class='9']")
    tab.wait_for_selector("#chosen h2 >> text=Bag, seed 109")
    assert "picture=9" in tab.url and is_tidy(tab)
    assert len(images(tab, "#chosen")) == 4 and "median distance" in tab.inner_text("#chosen")
    keep(tab, f"gallery-{width}")
    chosen = source(tab, "#chosen")
    tab.click("text=Open in Explore")
    tab.wait_for_selector("#stage .now img[alt^='Bag, 0%']")
    assert tab.eval_on_selector("#stage .now img", "i => i.src") == chosen


def test_a_result_becomes_a_card_and_inside_begins_with_a_moving_picture(visit, width):
    tab = visit("class=Bag&count=4&seed=5", width)
    assert tab.locator("#card").is_disabled()
    tab.wait_for_selector("#card:enabled")
    with tab.expect_download() as waiting:
        tab.click("#card")
    data = Path(waiting.value.path()).read_bytes()
    assert waiting.value.suggested_filename == "one-step-seed-5.png"
    card = Image.open(io.BytesIO(data))
    assert card.size == (1200, 630)
    shown = Image.open(io.BytesIO(base64.b64decode(source(tab, "#teacher").split(",")[1])))
    drawn = card.convert("L").crop((620, 156, 620 + 196, 156 + 196)).resize(shown.size)
    pairs = zip(drawn.tobytes(), shown.convert("L").tobytes(), strict=True)
    assert sum(abs(a - b) for a, b in pairs) / 28**2 < 12  # the teacher's first picture
    rows = tab.evaluate("[1, 2, 4, 8, 16, 64].map(n => dd2.card.fit(n, 400))")
    assert rows == [[1, 400], [2, 270], [2, 200], [4, 135], [4, 100], [10, 54]]  # as large as fit
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / f"card-{width}.png").write_bytes(data)

    open_tab(tab, "Inside")
    tab.wait_for_selector("#inside svg")
    said = tab.inner_text("#tabs")
    assert said.index("How does a model learn") < said.index("One token of one picture")
    assert tab.locator("#moving svg").count() == 3
    assert tab.evaluate("document.documentElement.scrollHeight") < 2500 and is_tidy(tab)
    moves = "() => document.getAnimations().filter(a => a.playState === 'running').length"
    assert tab.evaluate(moves) > 16
    tab.emulate_media(reduced_motion="reduce")
    tab.wait_for_function(f"({moves})() === 0")  # a fade that had begun may end
    keep(tab, f"inside-{width}")
