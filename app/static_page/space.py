"""The static page as a Hugging Face static Space: no server, no GPU, no queue."""

from pathlib import Path

from app.static_page import assemble
from dd2core.store.files import read_json, write_atomic

README = """---
title: Distilled Decoding 2, in your browser
emoji: 🎨
colorFrom: green
colorTo: blue
sdk: static
app_file: index.html
license: mit
short_description: One-step image generation on the visitor's own device
pinned: false
---

# One step beside its teacher, in the visitor's browser

An autoregressive image model paints token by token; a copy of it, distilled with Conditional Score
Distillation (Distilled Decoding 2, [arXiv:2510.21003](https://arxiv.org/abs/2510.21003)), paints
the whole image in one forward pass. Here both run on the visitor's own device, with ONNX Runtime
Web (MIT licence, `ort/`).

The code was written anew and is under the MIT licence; see `NOTICE.md` for credits.
"""
LARGE = "*.onnx filter=lfs diff=lfs merge=lfs -text\n*.wasm filter=lfs diff=lfs merge=lfs -text\n"


def static_space(out: Path, names: list[str]) -> str:
    """Assemble the Space and check that it is whole; see `assemble.assemble`.

    Returns:
        str: one sentence about it.

    Raises:
        DD2Error: as `assemble.assemble` and `assemble.check`.
    """
    assemble.assemble(out, names)
    write_atomic(out / "README.md", README.encode())
    write_atomic(out / ".gitattributes", LARGE.encode())
    assemble.check(out)
    models = [name for name in read_json(out / assemble.LIST) if name.endswith("/web.json")]
    return (f"It is whole: {len(models)} model{'s' if len(models) > 1 else ''}, "
            f"{assemble.download_bytes(out) / 1e6:.1f} MB for a visitor of the first.")
