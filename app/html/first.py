"""What the page shows before any script has come: its heading and the first one-step picture.

Gradio's first HTML is empty until its scripts have been fetched and run, one to several seconds
later. This stands in the same place meanwhile, with the same styles, and goes as the page's own
picture arrives.
"""

import re

from app.theme import CSS

# Gradio's theme has not come yet: its colours that matter here, and its distances.
LOOK = """
#dd2-first { --primary-700: #0f766e; --primary-400: #2dd4bf; --body-text-color: #1e293b;
  --body-text-color-subdued: #64748b; --border-color-primary: #e2e8f0;
  --body-background-fill: #fff; --block-background-fill: #fff; --background-fill-secondary: #f8fafc;
  position: absolute; inset: 0 0 auto; z-index: 5; min-height: 100vh; font: 16px/1.5 system-ui,
  sans-serif; color: var(--body-text-color); background: var(--body-background-fill); }
#dd2-first.dark { --body-text-color: #f1f5f9; --body-text-color-subdued: #94a3b8;
  --border-color-primary: #334155; --body-background-fill: #0f172a;
  --block-background-fill: #1e293b;
  --background-fill-secondary: #0f172a; }
.first-main { max-width: 1056px; margin: auto; padding: 14px 32px; display: flex;
  flex-direction: column; gap: 16px; }
#dd2-first .dd2-top { display: flex; min-height: 6rem; box-sizing: border-box; }
.first-tabs { height: 43px; border-bottom: 1px solid var(--border-color-primary); }
#dd2-first h2 { line-height: 1.3; } #dd2-first button { font: inherit; }
/* Columns that do not wait for what is in them: the HTML may come, and be shown, in two parts. */
#first-panels { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
@media (min-width: 601px) { #dd2-first .dd2-race p { min-height: 37px; } }
@media (max-width: 600px) {
  .first-main { padding: 4px 10px; gap: 8px; }
  #dd2-first .dd2-top { min-height: 2.5rem; }
  .first-tabs { height: 59px; }
}
"""
GO = """<script>(() => {
  const first = document.getElementById("dd2-first"), asked = new URLSearchParams(location.search);
  const other = ["model", "class", "seed", "count"].some((name) => asked.has(name));
  if (other || (asked.get("tab") || "compare") !== "compare") return first.remove();
  const theme = asked.get("__theme");
  const night = matchMedia("(prefers-color-scheme: dark)").matches;
  first.classList.toggle("dark", theme === "dark" || (theme !== "light" && night));
  const watch = new MutationObserver(() => {
    if (!document.querySelector("#one-step img")) return;
    watch.disconnect();
    requestAnimationFrame(() => first.remove());
  });
  watch.observe(document.documentElement, { childList: true, subtree: true });
})()</script>"""
OWN = re.compile(r"#(verdict|race|panels|one-step|teacher)\b")  # the page's own elements come later


def first_html(head: str, verdict: str, race: str, one_step: str, teacher: str) -> str:
    """What stands in the page's place, to be put first into its body; a view that the address
    asks for removes it at once.

    Args:
        head: heading, as the page shows it.
        verdict, race, one_step, teacher: parts of the front tab, as it opens.
    """
    style = LOOK + OWN.sub(r"#first-\1", CSS)
    parts = zip(("one-step", "teacher"), (one_step, teacher), strict=True)
    panels = "".join(f'<div id="first-{name}">{part}</div>' for name, part in parts)
    return (
        f'<div id="dd2-first" class="gradio-container"><style>{style}</style>'
        f'<div class="first-main"><div class="dd2-top"><div>{head}</div></div>'
        f'<div class="first-tabs"></div><div id="first-verdict">{verdict}</div>'
        f'<div id="first-race">{race}</div><div id="first-panels">{panels}</div></div></div>{GO}'
    )
