"""What the front tab offers to choose from: the teacher's settings, and examples."""

from typing import Any

import gradio as gr

from app.requests import ALL_CLASSES


def teachers_settings(pipe: Any) -> list[gr.components.Component]:
    """Guidance, temperature, top-k, top-p, at the preset's values."""
    preset, codes = pipe.sampling, pipe.teacher.codebook.shape[0]
    with gr.Row():
        cfg = gr.Slider(
            0, 10, value=preset.cfg, step=0.05, label="Guidance", info="More: truer to the class"
        )
        temperature = gr.Slider(
            0.1, 2, value=preset.temperature, step=0.05, label="Temperature", info="1: as trained"
        )
    with gr.Row():
        top_k = gr.Slider(
            0, codes, value=preset.top_k, step=1, label="Top-k", info="0: every code may be drawn"
        )
        top_p = gr.Slider(
            0.01, 1, value=preset.top_p, step=0.01, label="Top-p", info="1: every code may be drawn"
        )
    return [cfg, temperature, top_k, top_p]


def examples(pipe: Any) -> list[list[Any]]:
    """Class, images and seed of some comparisons; classes from all over the list."""
    names = pipe.class_names
    picked = dict.fromkeys(names[i * len(names) // 3] for i in range(3))
    return [[ALL_CLASSES, 16, 3], *([name, 8, 7 + i] for i, name in enumerate(picked))]


def labels(pipe: Any) -> list[list[str]]:
    """The examples in words."""
    return [[f"{name}, seed {seed}"] for name, _, seed in examples(pipe)]
