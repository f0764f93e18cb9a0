"""A model that cannot be loaded, picked in the browser: one sentence, and the last one stays."""

import pytest

from app.main import launch
from app.page import build_page
from app.serve.models import Models
from app.serve.runs import Samplers
from dd2core import DD2Error
from tests.support.app_helpers import free_port

pytestmark = pytest.mark.browser


@pytest.fixture
def address(tiny_pipe, monkeypatch):
    def load(name, device):
        raise DD2Error(f"The weights of {name} are damaged: download them again.")

    monkeypatch.setattr("app.serve.models.load_pipeline", load)
    models = Models([tiny_pipe.name, "broken"])
    models._loaded[tiny_pipe.name] = Samplers(tiny_pipe)
    page = build_page(models)
    _, url, _ = launch(page, server_port=free_port(), prevent_thread_lock=True, quiet=True)
    yield url
    page.close(verbose=False)


def test_the_picker_goes_back_and_the_last_model_goes_on(browser, address, tiny_pipe):
    tab, trouble = browser.new_page(), []
    tab.set_default_timeout(60_000)
    tab.on("console", lambda m: m.type == "error" and trouble.append(m.text))
    tab.goto(address)
    tab.wait_for_selector(".dd2-done")
    for _ in range(2):  # the second time as the first
        tab.select_option("#model select", "broken")
        tab.wait_for_function("document.querySelector('#model select').value !== 'broken'")
        tab.wait_for_selector("#no-model >> text=The weights of broken are damaged")
    assert tab.eval_on_selector("#model select", "list => list.value") == tiny_pipe.name
    tab.fill("#seed input", "9")
    tab.click("#compare")
    tab.wait_for_function("location.search.includes('seed=9')")
    assert not trouble
    tab.close()
