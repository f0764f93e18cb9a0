"""The page that runs in the browser: Python's tokens, its race, offline, and its one sentence."""

import shutil

import numpy as np
import pytest

from app.static_page import assemble
from app.static_page import serve as serving
from dd2core import DD2Error
from dd2core.pipeline import Pipeline
from dd2core.store.files import read_json
from tests.static_page.conftest import MODELS, serve
from tests.support import tiny_colour
from tests.support.browser_helpers import keep

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.browser
@pytest.mark.parametrize("name", list(MODELS))
def test_tokens_pictures_and_the_teacher_are_pythons_seed_for_seed(visit, models, name):
    tab, pipe = visit(f"model={name}"), Pipeline(models[name])
    for seed, label in ((0, 0), (12345678901, 2)):
        one = tab.evaluate("o => dd2.call('one', o).then(r => ({...r, pixels: [...r.pixels]}))",
                           {"name": name, "label": label, "seed": seed})
        wanted = pipe.sample_one_step([label], seed)
        assert one["tokens"] == wanted.tokens[0].tolist()
        assert np.abs(np.array(one["pixels"]) - wanted.images[0].reshape(-1)).max() <= 1
        tab.evaluate("o => dd2.call('teacher', o)", {"name": name})
        for settings in ({}, {"top_k": 1}, {"top_k": 7, "top_p": 0.8, "temperature": 1.3}):
            painted = tab.evaluate("o => dd2.call('paint', o)", {
                "name": name, "label": label, "seed": seed, "settings": settings})
            wanted = pipe.sample_teacher([label], seed, **settings).tokens[0].tolist()
            assert painted["tokens"] == wanted, settings


@pytest.mark.browser
def test_given_latents_are_painted_as_python_paints_them(visit, models):
    tab, pipe = visit("model=tiny"), Pipeline(models["tiny"])
    latents = pipe.latents(1, 77)
    one = tab.evaluate(
        "o => dd2.call('one', {...o, latent: Float32Array.from(o.latent)})",
        {"name": "tiny", "label": 1, "latent": latents.flatten().tolist()})
    assert one["tokens"] == pipe.sample_one_step([1], latents=latents).tokens[0].tolist()


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_the_race_ends_and_the_slider_paints_without_scrolling_sideways(visit, width):
    tab = visit("model=tiny-colour", width)
    before = tab.eval_on_selector("#way-image", "c => c.toDataURL()")
    tab.eval_on_selector("#place", "p => { p.value = 1; p.dispatchEvent(new Event('input')); }")
    tab.wait_for_selector("text=100% of the way")
    after = tab.eval_on_selector("#way-image", "c => c.toDataURL()")
    assert before != after == tab.eval_on_selector("#to-image", "c => c.toDataURL()")
    tab.click("#race")
    tab.wait_for_selector("html[data-state=raced]")
    assert tab.inner_text("#one-clock").endswith("ms")
    assert "readings" in tab.inner_text("#teacher-spread") and "×" in tab.inner_text("#verdict")
    assert "64 of 64 steps" in tab.inner_text("#teacher")
    wide = ("[...document.querySelectorAll('*')].filter(e => !e.closest('#classes *') && "
            "e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"
            ".map(e => e.outerHTML.slice(0, 80))")
    assert tab.evaluate(wide) == []
    tab.wait_for_selector("#classes[data-painted='tiny-colour 0']")
    assert tab.eval_on_selector_all("#classes canvas", "all => all.map(c => c.width)") == [48] * 30
    tab.click("#classes button:nth-child(4)")
    tab.wait_for_function("n => document.querySelector('#one').ariaLabel.startsWith(n)",
                          arg=tiny_colour.CLASSES[3])
    assert "Press Race" in tab.inner_text("#verdict")  # no ratio of another class stays
    assert tab.get_attribute("#teacher-image", "aria-label") == "Not painted yet"
    named = "all => all.every(c => c.ariaLabel)"  # those of the classes have a caption each
    assert tab.eval_on_selector_all("canvas:not([aria-hidden])", named)
    keep(tab, f"static-{width}")


@pytest.mark.browser
def test_the_slider_keeps_two_pictures_under_way_and_ends_at_the_last_place(visit):
    tab = visit()
    most, asked, last = tab.evaluate("""async () => {
      const { newest } = await import(`${location.href.split("?")[0]}slider.js`);
      let place = 0, running = 0, most = 0;
      const asked = [], move = newest(async () => {
        asked.push(place);
        most = Math.max(most, ++running);
        await new Promise(done => setTimeout(done, 20));
        running -= 1;
      });
      let rest;
      for (; place < 10; place++) rest = move();
      place = 99;
      await Promise.all([rest, move()]);
      return [most, asked, running];
    }""")
    assert most == 2 and asked == [0, 1, 99] and last == 0
    broken = """async () => {
      const { newest } = await import(`${location.href.split("?")[0]}slider.js`);
      let calls = 0;
      const move = newest(async () => { calls += 1; throw new Error("no"); });
      const said = await Promise.allSettled([move(), move()]);
      await move().catch(() => {});
      return [said.map(s => s.reason?.message), calls];
    }"""
    assert tab.evaluate(broken) == [["no", "no"], 3]


@pytest.mark.browser
def test_classes_are_chosen_by_name_and_models_from_the_list(visit, models):
    tab = visit()
    tab.select_option("#class", label="owl")
    tab.wait_for_function("document.querySelector('#one').ariaLabel.startsWith('owl')")
    wanted = Pipeline(models["tiny"]).sample_one_step([2], 0).tokens[0].tolist()
    assert tab.get_attribute("html", "data-tokens") == " ".join(map(str, wanted))
    tab.select_option("#which", "tiny-var")
    tab.wait_for_selector("text=One step instead of 3")
    tab.wait_for_function("document.querySelector('#machine').textContent.startsWith('tiny-var')")


@pytest.mark.browser
def test_it_works_without_a_network_after_the_first_load(browser, folder):
    server = serve(folder)
    context = browser.new_context()
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(f"http://127.0.0.1:{server.server_port}/{folder.name}/")
    tab.wait_for_selector("html[data-kept=yes]")
    server.shutdown()
    server.server_close()
    tab.reload()
    tab.wait_for_selector("html[data-state=ready]")
    tab.click("#race")
    tab.wait_for_selector("html[data-state=raced]")
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("fault, sentence", [
    ("damage", "generator.onnx is damaged: reload the page, or assemble it anew."),
    ("remove", "generator.onnx is missing (404): assemble the page anew."),
    ("no list", "files.json is missing: assemble the page anew."),
    ("engine", "ort-wasm-simd-threaded.wasm is damaged: reload the page, or assemble it anew."),
])
def test_a_broken_file_is_one_sentence(browser, folder, tmp_path, fault, sentence):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    path = broken / {"no list": "files.json", "engine": "ort/ort-wasm-simd-threaded.wasm"}.get(
        fault, "models/tiny/generator.onnx")
    if fault in ("damage", "engine"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(DD2Error):
        assemble.check(broken)
    server = serve(broken)
    tab = browser.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(f"http://127.0.0.1:{server.server_port}/broken/")
    tab.wait_for_selector("html[data-state=failed]")
    assert tab.inner_text("#verdict").strip().endswith(sentence) and not errors
    tab.close()
    server.shutdown()


def test_the_space_has_its_front_matter_notices_and_nothing_absolute(folder):
    readme = (folder / "README.md").read_text()
    assert readme.startswith("---\n") and "\nsdk: static\n" in readme.split("---")[1]
    assert "app_file: index.html" in readme
    for name in ("LICENSE", "NOTICE.md", "ort/LICENSE", "ort/ThirdPartyNotices.txt"):
        assert (folder / name).stat().st_size > 500
    for path in assemble.PAGE.glob("*.*"):
        text = path.read_text()
        assert 'src="/' not in text and 'href="/' not in text and "://" not in text, path


def test_assembling_again_keeps_the_graphs_and_drops_models_that_are_gone(folder, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(folder, out)
    graph = out / "models/tiny/generator.onnx"
    before = graph.stat().st_mtime_ns
    names = [n for n in (folder.parent.parent).glob("models*/tiny")]
    assemble.assemble(out, [str(names[0])])
    assert graph.stat().st_mtime_ns == before
    assert {n.split("/")[1] for n in read_json(out / "files.json") if "models/" in n} == {"tiny"}
    assemble.check(out)


def test_the_tab_is_offered_with_its_size_where_the_page_was_built(folder, monkeypatch):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from app.tabs import browser

    assert browser.offered() == () and serving.middleware() == []
    monkeypatch.setenv("DD2_WEB", str(folder))
    assert browser.offered() == (browser.BrowserTab,)
    client = TestClient(Starlette(middleware=serving.middleware()))
    assert "<title>DD2" in client.get("/browser/").text
    assert client.get("/browser/models/tiny/web.json").json()["name"] == "tiny"
    assert client.get("/browser/../README.md").status_code == 404
    assert client.get("/elsewhere").status_code == 404
    assert 14e6 < assemble.download_bytes(folder) < 16e6  # the engine, and next to nothing
    assert 20e6 < assemble.webgpu_bytes(folder) < 30e6
