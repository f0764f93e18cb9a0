"""The page: one-step generator and teacher side by side, timed.

Run it with `python app.py`. One idea per file:

    main      loads the model and serves the page
    page      what is where, and which handler answers which button
    handlers  request → sampler → what the page or a program gets back
    requests  raw input → a checked request, or one clear sentence
    runs      what one sampler painted and what it cost
    present   pictures, captions and the verdict as HTML; the grid as an image
    picture   image files for programs
    theme     colours, fonts and CSS

Nothing is fetched from the network: Gradio's own analytics are off before it is imported.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
