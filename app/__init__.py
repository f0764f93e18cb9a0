"""The page: one-step generator and teacher side by side, timed.

Run it with `python app.py`. One idea per file:

    main         loads the models and serves the page
    models       which models there are; each is loaded when first asked for
    page         the frame: heading, picker, tabs, endpoints
    tab          what the tabs have in common
    compare explore refine inside results      one tab each
    handlers     the endpoints for programs
    requests     raw input → a checked request, or one clear sentence
    address      the view in the address bar, written and read
    runs         what one sampler painted and what it cost
    turns        one at a time on the machine
    zero         a GPU that is lent per call
    present      pictures, captions and the verdict as HTML; the grid as an image
    picture      image files, archives and animations
    charts       charts as inline SVG
    token_score  one token under both scores; score_view draws it
    measured     results and logs of a model, read from its folder
    theme        colours, fonts; page.css and page.js
    space        assembles the folder of a Hugging Face Space

Nothing is fetched from the network: Gradio's own analytics are off before it is imported.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
