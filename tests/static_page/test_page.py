"""The page that runs in the browser: Python's tokens, its race, offline, and its one sentence."""

import functools
import http.server
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from app.static_page import assemble, space
from app.static_page import serve as serving
from dd2core import DD2Error
from dd2core.pipeline import Pipeline
from dd2core.store.files import read_json, write_json
from dd2core.store.folder import save_folder
from tests.conftest import unavailable
from tests.support import tiny, tiny_colour, tiny_var
from tests.support.browser_helpers import is_foreign, keep

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
MODELS = {"tiny": lambda: tiny.model(channels=3), "tiny-var": tiny_var.model,
          "tiny-colour": tiny_colour.model}


@pytest.fixture(scope="module")
def models():
    return {name: make() for name, make in MODELS.items()}


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    """The Space of both tiny models."""
    if shutil.which("npm") is None:
        unavailable("there is no npm")
    names = []
    for name, model in models.items():
        save_folder(tmp_path_factory.mktemp("models") / name, model)
        names.append(str(tmp_path_factory.getbasetemp() / f"models{len(names)}" / name))
    out = tmp_path_factory.mktemp("web") / "space"
    try:
        assert space.static_space(out, names).startswith("It is whole: 3 models")
    except DD2Error as error:
        if "registry" not in str(error):
            raise
        unavailable(str(error))
    return out


class Quiet(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path):  # Python 3.11 does not know the first
        known = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        return known.get(Path(path).suffix) or super().guess_type(path)

    def log_message(self, *_):
        pass


def serve(folder):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def host(folder):
    """A plain static host; the page lies in a folder of it."""
    server = serve(folder)
    yield f"http://127.0.0.1:{server.server_port}/{folder.name}/"
    server.shutdown()


@pytest.fixture
def visit(browser, host):
    """Opens the page; no visit may see an error, scroll sideways or call another host."""
    seen = []

    def open_page(query="", width=1280, url=host, wait="[data-state=ready]"):
        context = browser.new_context(viewport={"width": width, "height": 800})
        tab = context.new_page()
        tab.set_default_timeout(120_000)
        trouble = []
        tab.on("console", lambda m: m.type == "error" and trouble.append(m.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("request", lambda r: is_foreign(r.url) and trouble.append(r.url))
        seen.append(SimpleNamespace(context=context, trouble=trouble))
        tab.goto(f"{url}?{query}")
        tab.wait_for_selector(f"html{wait}")
        return tab

    yield open_page
    for each in seen:
        each.context.close()
        assert not each.trouble


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


ADAPTER = """Object.defineProperty(navigator, "gpu",
  {value: {requestAdapter: async () => ({})}, configurable: true})"""
STAND_IN = """import * as own from "./ort.wasm.min.mjs";
export const { Tensor } = own, env = { wasm: {} };
export const InferenceSession = { async create(data, { executionProviders: [provider] }) {
  if (provider !== "webgpu") throw new Error("asked for another provider");
  const session = await own.InferenceSession.create(data, { executionProviders: ["wasm"] });
  return { async run(feed) {
    const out = await session.run(feed);
    WRONG
    return out;
  } };
} };
"""
WRONG = {"": "", "one step": "if (out.tokens) out.tokens.data[0] ^= 1n;",
         "pixels": "if (out.images) out.images.data[0] ^= 128;",
         "teacher": "if (out.logits) out.logits.data.reverse();"}


@pytest.fixture
def gpu_host(folder, tmp_path):
    """Serves a copy whose engine of WebGPU is WASM's with a fault, or npm's own (None)."""
    servers = []

    def start(wrong):
        copy = tmp_path / "gpu"
        shutil.copytree(folder, copy)
        if wrong is not None:
            (copy / "ort/ort.webgpu.min.mjs").write_text(STAND_IN.replace("WRONG", WRONG[wrong]))
        write_json(copy / "files.json", assemble.listing(copy, list(MODELS)))
        servers.append(serve(copy))
        return f"http://127.0.0.1:{servers[0].server_port}/gpu/"

    yield start
    for server in servers:
        server.shutdown()


def visit_with_adapter(browser, url, query=""):
    tab = browser.new_context().new_page()
    tab.set_default_timeout(120_000)
    tab.add_init_script(ADAPTER)
    fetched, errors = [], []
    tab.on("request", lambda r: fetched.append(r.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(f"{url}?{query}")
    tab.wait_for_selector("html[data-engine]")
    return tab, fetched, errors


@pytest.mark.browser
@pytest.mark.parametrize("wrong, word", [
    ("", None), (None, "WebGPU failed"), ("one step", "other tokens"), ("pixels", "other tokens"),
    ("teacher", "other tokens"),
])
def test_webgpu_runs_both_samplers_only_where_it_agrees_with_wasm(
        browser, gpu_host, models, wrong, word):
    tab, _, errors = visit_with_adapter(browser, gpu_host(wrong))
    if wrong in ("", "teacher"):
        assert "WebGPU · float32" in tab.inner_text("#machine")
    tab.click("#race")
    tab.wait_for_selector("html[data-state=raced]")
    line = tab.inner_text("#machine")
    assert ("Web, WebGPU" in line) == (word is None) == ("1 thread" not in line)
    assert word is None or word in line
    wanted = Pipeline(models["tiny"]).sample_teacher([0], 0).tokens[0].tolist()
    assert tab.get_attribute("html", "data-teacher") == " ".join(map(str, wanted))
    assert not errors
    tab.context.close()


@pytest.mark.browser
def test_the_larger_engine_is_fetched_only_where_there_is_an_adapter(visit, browser, gpu_host):
    tab = visit()
    tab.wait_for_selector("html[data-kept=yes]")
    assert tab.get_attribute("html", "data-engine") == "wasm"
    kept = tab.evaluate("""async () => {
      const all = [];
      for (const key of await caches.keys()) {
        all.push(...(await (await caches.open(key)).keys()).map(r => r.url));
      }
      return all;
    }""")
    assert any("threaded.wasm" in url for url in kept)
    assert not [url for url in kept if "webgpu" in url or "asyncify" in url]
    assert tab.inner_text("#machine").endswith("WASM · 1 thread · float32 · batch of 1")
    url = gpu_host("")
    for query, wanted in (("engine=wasm", False), ("", True)):
        tab, fetched, _ = visit_with_adapter(browser, url, query)
        assert any("asyncify.wasm" in each for each in fetched) == wanted
        tab.context.close()


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
