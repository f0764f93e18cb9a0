"""The page that runs in the browser, made once from small models, on a plain host."""

import functools
import http.server
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import unavailable
from tests.support import tiny, tiny_colour, tiny_var
from tests.support.browser_helpers import is_foreign

MODELS = {"tiny": lambda: tiny.model(channels=3), "tiny-var": tiny_var.model,
          "tiny-colour": tiny_colour.model}


@pytest.fixture(scope="session")
def models():
    return {name: make() for name, make in MODELS.items()}


@pytest.fixture(scope="session")
def folder(models, tmp_path_factory):
    """The Space of both tiny models."""
    from app.static_page import space  # these import onnx, which need not be there
    from dd2core import DD2Error
    from dd2core.store.folder import save_folder

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


@pytest.fixture(scope="session")
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
