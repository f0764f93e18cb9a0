"""Load the model, serve the page.

python app.py                                   # the shipped models, http://127.0.0.1:7860
DD2_MODEL=path/to/folder python app.py          # one preset, folder or hub repo id, and only that
GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=8000 python app.py
"""

import os

import gradio as gr

from app import zero
from app.page import build_page
from app.serve.models import Models
from app.theme import CSS, HEAD, THEME
from dd2core import DD2Error, load_pipeline

DEFAULT_MODEL = "fashion-llamagen"
QUEUE_SIZE = 64  # waiting requests; the next one hears "queue is full" instead of waiting forever


def launch(page: gr.Blocks, **options) -> tuple:
    """Serve `page`; `options` go to `gr.Blocks.launch`. Returns what that returns."""
    return page.queue(max_size=QUEUE_SIZE).launch(
        theme=THEME,
        css=CSS,
        head=HEAD,
        footer_links=["api", "settings"],
        share=False,
        ssr_mode=False,  # the page is small; server-side rendering would need node
        **options,
    )


def main() -> None:
    """Serve the shipped models, or the one named by DD2_MODEL, until interrupted."""
    device = os.environ.get("DD2_DEVICE") or "auto"
    try:
        if name := os.environ.get("DD2_MODEL"):
            models = Models.of(load_pipeline(name, device=device))
        else:
            models = Models.on_disk(DEFAULT_MODEL, device)
        if zero.LENT:
            models.load_all()  # where the GPU is lent per call, weights must be there before
        launch(build_page(models))
    except (DD2Error, OSError) as error:  # OSError: the port is taken
        raise SystemExit(f"app: {error}") from None
