"""The ring of Explore's map, event by event: keys, edges, buttons, and a request that is slow."""

import pytest

pytestmark = pytest.mark.browser
RING = "() => { const k = document.querySelector('.dd2-knob').style; return [k.left, k.top]; }"
PRESS = """keys => keys.map(key => {
  const free = document.querySelector(".dd2-pad").dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const knob = document.querySelector(".dd2-knob").style;
  return [knob.left, knob.top, free]; })"""  # at once: no picture comes in between


def _open(visit, width: int = 1280):
    tab = visit("tab=explore&class=Bag&at=0.25", width)
    tab.wait_for_selector("#pad img")
    tab.evaluate("dd2.pad.patience = 1e6")  # pictures, and no clock, say when to ask again
    _is_at(tab, "80%", "30%")
    return tab


def _is_at(tab, left: str, top: str) -> None:
    """Waits until the ring is there: tenths of the width, and 10% to 90% of the height."""
    tab.wait_for_function(f"at => `${{({RING})()}}` === `${{at}}`", arg=[left, top])


def test_each_key_moves_the_ring_by_a_cell_and_the_edges_hold_it(visit):
    tab = _open(visit)
    taken = tab.evaluate(PRESS, ["ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight", "ArrowRight",
                                 "ArrowRight", "End", "ArrowDown", "Home", "ArrowUp", "End"])
    assert taken == [["70%", "30%", False], ["70%", "26%", False], ["70%", "30%", False],
                     ["80%", "30%", False], ["90%", "30%", False], ["90%", "30%", False],
                     ["90%", "90%", False], ["90%", "90%", False], ["90%", "10%", False],
                     ["90%", "10%", False], ["90%", "90%", False]]  # False: nothing scrolls
    assert tab.evaluate(PRESS, ["a", "Tab"]) == [["90%", "90%", True]] * 2
    assert tab.evaluate(PRESS, ["ArrowLeft"] * 10)[8:] == [["0%", "90%", False]] * 2
    assert tab.get_attribute(".dd2-pad", "aria-valuenow") == "100"
    tab.wait_for_selector("#stage .now img[alt='T-shirt/top, 100% of the way']")


@pytest.mark.parametrize("width", [1280, 360])
def test_the_ring_is_held_past_the_edge_until_the_button_is_let_go(visit, width):
    tab = _open(visit, width)
    pad = tab.locator(".dd2-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    cell = box["width"] / 10
    tab.mouse.move(box["x"] + 8.5 * cell, box["y"] + box["height"] * 0.3)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 5.5 * cell, box["y"] - 60)
    _is_at(tab, "50%", "10%")
    tab.mouse.move(box["x"] - 5, box["y"] - 60)
    _is_at(tab, "0%", "10%")
    tab.mouse.up()
    tab.wait_for_selector("#stage .now img[alt='T-shirt/top, 0% of the way']")
    assert pad.evaluate("pad => document.activeElement === pad")  # the keys go on from here
    for button in ("none", "right"):
        tab.mouse.move(box["x"] + 2.5 * cell, box["y"] + box["height"] / 2)
        if button == "right":
            tab.mouse.down(button="right")
        tab.mouse.move(box["x"] + 3.5 * cell, box["y"] + box["height"] / 2)
        assert tab.evaluate(RING) == ["0%", "10%"], button
    tab.mouse.up(button="right")
    tab.click("#stage [data-class=Sandal]")
    _is_at(tab, "50%", "10%")  # the ring follows the picture as well


def test_one_request_at_a_time_the_newest_next_and_back_where_none_is_answered(visit):
    tab = _open(visit)
    asked, late = tab.evaluate(f"""async keys => {{
      const pad = dd2.pad;
      [pad.patience, pad.asked, pad.truly] = [1000, [], pad.tell];
      pad.tell = () => pad.asked.push(`${{pad.value}}`); /* never answered */
      ({PRESS})(keys);
      const asked = [...pad.asked];
      document.querySelector("#stage .dd2-stage").dataset.at = "0.6"; /* an earlier picture */
      await new Promise(done => setTimeout(done));
      return [asked, ({RING})()]; }}""", ["ArrowRight", "ArrowLeft", "ArrowLeft"])
    assert asked == ["Ankle boot,0.25"] and late == ["70%", "30%"]
    _is_at(tab, "80%", "58%")  # where the picture is, once nobody waits for the ring's
    assert tab.evaluate("dd2.pad.asked") == ["Ankle boot,0.25", "Sneaker,0.25"]
    tab.evaluate("dd2.pad.tell = dd2.pad.truly")
    tab.evaluate(PRESS, ["ArrowUp"])
    tab.wait_for_selector("#stage .now img[alt='Bag, 55% of the way']")
