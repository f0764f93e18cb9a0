"""What is shown before any script has come stands where the page's own will, and goes."""

import pytest

pytestmark = pytest.mark.browser

PLACES = """frame => ["h1", ".dd2-verdict", ".dd2-panel img"].map(name => {
  const box = document.querySelector(`${frame} ${name}`).getBoundingClientRect();
  return [box.left, box.top, box.height];
})"""


@pytest.mark.parametrize("width", [1280, 360])
def test_the_first_picture_needs_no_script_and_stays_where_it_is(browser, shown_url, width):
    tab = browser.new_page(viewport={"width": width, "height": 740})
    tab.set_default_timeout(120_000)
    tab.route("**/assets/*.js", lambda route: route.abort())
    tab.goto(shown_url)
    tab.wait_for_selector("#dd2-first img")
    assert tab.locator("#dd2-first img").count() == 8
    early = tab.evaluate(PLACES, "#dd2-first")
    tab.unroute_all()
    tab.goto(shown_url)
    tab.wait_for_function("!document.querySelector('#dd2-first')")
    late = tab.evaluate(PLACES, "gradio-app")
    assert all(abs(a - b) <= 4 for x, y in zip(early, late, strict=True)
               for a, b in zip(x, y, strict=True)), (early, late)
    tab.goto(f"{shown_url}/?seed=5")  # another view than the one that the page comes with
    assert tab.locator("#dd2-first").count() == 0
    tab.close()
