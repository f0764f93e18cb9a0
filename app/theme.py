"""Colours, fonts and CSS. System fonts only: the page must not fetch anything."""

import gradio as gr

THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="md",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
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

CSS = """
.gradio-container { max-width: min(1080px, 100%) !important; margin-inline: auto !important; }
.gradio-container > .main, .main > .wrap, .wrap > .contain { min-width: 0; max-width: 100%; }
@media (max-width: 480px) { .gradio-container > .main { padding: 16px !important; } }
.dd2-flush .html-container { padding: 0 !important; }
.dd2-head h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -.01em; margin: 0 0 .3rem;
  text-wrap: balance; }
.dd2-head p { color: var(--body-text-color-subdued); font-size: 1rem; margin: 0; max-width: 46rem; }

.dd2-verdict { min-height: 6.4rem; display: flex; flex-direction: column; justify-content: center;
  text-align: center; }
.dd2-verdict p { margin: 0; color: var(--body-text-color-subdued); }
.dd2-verdict .dd2-ratio { font-size: 1.5rem; line-height: 1.5; color: var(--body-text-color); }
.dd2-done .dd2-ratio { font-size: 1.9rem; line-height: 1.3; }
.dd2-done b { font-size: 3rem; line-height: 1.15; font-weight: 700;
  color: var(--primary-600); font-variant-numeric: tabular-nums; }
.dark .dd2-done b { color: var(--primary-400); }
#verdict .error, #verdict .clear-status { display: none; } /* the toast says it in full */

.dd2-panel { border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 1rem;
  background: var(--block-background-fill); }
.dd2-panel h2 { position: relative; display: flex; justify-content: space-between;
  align-items: baseline; font-size: 1.05rem; font-weight: 600; margin: 0 0 .75rem;
  padding-bottom: .55rem; border-bottom: 2px solid var(--border-color-primary); }
.dd2-panel h2 small { font-weight: 400; font-size: .85rem; font-variant-numeric: tabular-nums;
  color: var(--body-text-color-subdued); }
.dd2-bar { position: absolute; left: 0; bottom: -2px; height: 2px; width: var(--done);
  background: var(--primary-500); }

.dd2-grid { display: grid; grid-template-columns: repeat(var(--across), 1fr); gap: 6px; }
.dd2-tile { display: block; width: 100%; aspect-ratio: 1; border-radius: 4px; margin: 0;
  object-fit: cover; background: var(--background-fill-secondary); }
div.dd2-tile { border: 1px dashed var(--border-color-primary); }
.dd2-small .dd2-tile { image-rendering: pixelated; }

.dd2-costs { margin: .9rem 0 0; font-size: .9rem; }
.dd2-costs div { display: flex; justify-content: space-between; gap: 1rem; padding: .12rem 0; }
.dd2-costs dt, .dd2-costs dd { margin: 0; color: var(--body-text-color-subdued);
  font-weight: 400; }
.dd2-costs dd { font-variant-numeric: tabular-nums; white-space: nowrap; }
.dd2-costs .dd2-main * { color: var(--body-text-color); font-weight: 600; font-size: 1rem; }
.dd2-machine { text-align: center; font-size: .85rem; margin: 0;
  color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.dd2-code pre { max-width: 100%; overflow-x: auto; }
"""
