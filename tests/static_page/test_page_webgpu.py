"""WebGPU in the page: a stand-in for its engine, right or wrong, behind a made-up adapter."""

import shutil

import pytest

from app.static_page import assemble
from dd2core.pipeline import Pipeline
from dd2core.store.files import write_json
from tests.static_page.conftest import MODELS, serve

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

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
