"""One step and its teacher in the visitor's own browser: a folder for any static host.

`page/` is plain HTML, CSS and JavaScript; `runtime` fetches the engine, `assemble` puts page,
engine and the graphs of some models into one folder, `serve` is for the tab of the other page.

    make web                                     # build/web, from the shipped models
    python -m app.space static=true out=FOLDER   # the same as a Hugging Face static Space
"""
