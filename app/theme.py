"""Colours and fonts; CSS and JavaScript from their files. System fonts only: the page must not
fetch anything."""

from pathlib import Path

import gradio as gr

THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="lg",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    button_primary_background_fill="*primary_700",  # white on the default is too pale to read
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    button_large_text_weight="500",
    body_text_color_subdued="*neutral_500",  # the default is too pale to read on white
    button_cancel_background_fill="transparent",  # a calm Stop: it is no alarm
    button_cancel_background_fill_dark="transparent",
    button_cancel_background_fill_hover="*neutral_100",
    button_cancel_background_fill_hover_dark="*neutral_800",
    button_cancel_text_color="*body_text_color",
    button_cancel_text_color_dark="*body_text_color",
    button_cancel_text_color_hover="*body_text_color",
    button_border_width="1px",
    button_border_width_dark="1px",
    button_cancel_border_color="*neutral_300",
    button_cancel_border_color_dark="*neutral_600",
)

FOLDER = Path(__file__).parent
CSS = (FOLDER / "page.css").read_text(encoding="utf-8")
HEAD = f"<script>{(FOLDER / 'page.js').read_text(encoding='utf-8')}</script>"
