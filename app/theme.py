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
CSS = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "own/own.css"))
# The frame around the page, which page.css cannot reach (Gradio puts its own frame before every
# selector there), and room for what comes late: without it the page would jump.
EARLY = """<style>
.gradio-container { max-width: 100% !important; }
.gradio-container > .main { width: 100%; max-width: 100% !important; box-sizing: border-box;
  padding: 14px 32px !important; }
.gradio-container > .main > .wrap:not(.full) { width: 100%; max-width: 1056px; min-width: 0;
  margin-inline: auto; }
.wrap > .contain { min-width: 0; max-width: 100%; }
.gradio-container > .main > .wrap.full { display: none !important; }
.wrap:has(> .contain):not(:has(.dd2-head)) footer,
.contain > .column:not(:has(.dd2-head)) > :not(.dd2-top) { display: none !important; }
:root.dd2-other #one-step img { visibility: hidden; }
.dd2-top { min-height: 6rem; } #tabs { min-height: 56rem; }
@media (max-width: 600px) {
  .gradio-container > .main { padding: 4px 10px !important; }
  .dd2-top { min-height: 2.5rem; }
}
</style>"""
HEAD = EARLY + "".join(f"<script>{(FOLDER / name).read_text(encoding='utf-8')}</script>"
               for name in ("page.js", "replay.js", "own/sketch.js", "own/card.js", "tabs/pad.js"))
