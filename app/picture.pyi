"""An image output for programs whose file is never rewritten.

Gradio names the file of an image by its content and writes it again whenever the same image comes
back: each message of `/compare` repeats the one-step images, and each client with the same seed
gets the same ones. Whoever is downloading at that moment gets half a file.
"""

import tempfile
from pathlib import Path

import gradio as gr
from gradio.components.image import ImageData
from PIL import Image

from gradio.events import Dependency

class Picture(gr.Image):
    """`gr.Image` as an output of Pillow images, put into the cache by an atomic rename, once."""

    is_template = True  # for the browser it is a plain image

    def postprocess(self, value: Image.Image | None) -> ImageData | None:
        if value is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "image.png")
            value.save(path)
            return super().postprocess(self.move_resource_to_block_cache(path))
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component