"""Image files for programs, never rewritten.

Left to itself, Gradio names the file of an image by its content and writes it again whenever the
same image comes back: each message of `/compare` repeats the one-step images, and all callers
with one seed get the same ones. Whoever is downloading at that moment would get half a file.
"""

import tempfile
from pathlib import Path

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image


def keep(image: Image.Image) -> str:
    """Path of `image` in Gradio's cache, put there by an atomic rename unless it is there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.png")
        image.save(path)
        return save_file_to_cache(path, get_upload_folder())
