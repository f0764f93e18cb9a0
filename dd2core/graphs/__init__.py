"""A model as ONNX graphs: for onnxruntime on a server's CPU and in a visitor's browser.

    generator.onnx      latents (B, L, C), labels (B,) → tokens (B, L)
    decoder.onnx        tokens (B, L), upto (1,) → images (B, H, W, channels), uint8
    teacher_step.onnx   tokens (B, L), labels (B,), strength (1,), positions (n,), past keys and
                        values → logits (B, n, V), guided; present keys and values
    web.json            sizes, spans, class names, `Sampling`, sha256 of the three

The batch is free in all of them. Writing them needs `onnx` and `onnxscript`, running them
`onnxruntime`: requirements-dev.txt; nothing else of this package does.
"""

GENERATOR, DECODER, STEP = "generator.onnx", "decoder.onnx", "teacher_step.onnx"
ABOUT = "web.json"
