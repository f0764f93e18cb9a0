"""The page: one-step generator and teacher side by side, timed.

Run it with `python app.py`, in a notebook with `from app import launch; launch()`. One idea per
file:

    main         loads the models and serves the page
    page         the frame: heading, picker, tabs, endpoints
    tabs/        what the tabs have in common (tab), then one file a tab
    api          the endpoints for programs
    requests     raw input → a checked request, or one clear sentence
    address      the view in the address bar, written and read
    shipped      the models that lie in assets/, in the order of the picker
    serve/       models, runs (what a sampler made and what it cost), clocks (both measured alike),
                 turns (one at a time on the machine), tickets (which comparison is the wanted one),
                 token_score, and what stands between strangers and Gradio
    html/        pictures, captions, charts, the verdict as HTML; files for download; results read
                 from a model's folder
    theme        colours, fonts; page.css, page.js and replay.js
    zero         a GPU that is lent per call
    space        assembles the folder of a Hugging Face Space

Nothing is fetched from the network: Gradio's own analytics are off before it is imported.
"""

import os
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def launch(model: str | None = None, **options: Any) -> tuple:
    """The page in a notebook: `from app import launch; launch()`. See `app.main.open_page`."""
    from app.main import open_page

    return open_page(model, **options)
