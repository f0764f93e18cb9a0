"""The method in three small moving pictures, as inline SVG that CSS moves.

Orange is the teacher, teal the one-step model, as everywhere on the page. Where motion is not
wanted each stands at its end.
"""

GRID = 4  # tokens a side
CELL = 22  # units of the view box; a gap of 2 around each token
BOX = f'viewBox="0 0 {GRID * CELL + 4} {GRID * CELL + 4}" role="img"'


def moving() -> str:
    """The three steps, each with a sentence."""
    steps = (
        (_one_after_the_other(), '<b class="two">The teacher</b> paints one token after the other. '
                                 "Each looks at all that were painted before it."),
        (_all_at_once(), '<b class="one">One step</b> turns noise into all tokens at once. It '
                         "does not trace the teacher’s picture: it paints its own."),
        (_pulled(), 'Two networks judge what it paints: where <b class="two">the teacher</b> would '
                    'go, and where <b class="one">the one-step model</b> goes. Training pulls from '
                    "the one to the other."),
    )
    items = "".join(f"<li>{picture}<span>{said}</span></li>" for picture, said in steps)
    return f'<ol class="dd2-moving">{items}</ol>'


def _cells(look: str) -> str:
    """A square for each token, numbered in raster order."""
    return "".join(
        f'<rect class="{look}" style="--i:{i}" x="{i % GRID * CELL + 3}" '
        f'y="{i // GRID * CELL + 3}" width="{CELL - 2}" height="{CELL - 2}" rx="3"/>'
        for i in range(GRID * GRID)
    )


def _one_after_the_other() -> str:
    return (f'<svg {BOX} class="two" aria-label="Squares appear one after the other.">'
            f'{_cells("dd2-after")}</svg>')


def _all_at_once() -> str:
    dust = "".join(
        f'<circle class="noise" cx="{(37 * i) % 83 + 5}" cy="{(59 * i) % 79 + 7}" r="2"/>'
        for i in range(60)
    )
    return (f'<svg {BOX} class="one" aria-label="Noise turns into all squares at once.">'
            f'<g class="dd2-before">{dust}</g><g class="dd2-at-once">{_cells("")}</g></svg>')


def _pulled() -> str:
    return (
        f'<svg {BOX} aria-label="A point is pulled from the one-step model to the teacher.">'
        '<rect class="frame" x="3" y="3" width="86" height="86" rx="6"/>'
        '<g class="two"><circle class="full" cx="62" cy="26" r="9"/></g>'
        '<g class="one"><path class="arrow" d="M34 54 L52 36 M44 36 H52 V44"/>'
        '<g class="dd2-pulled"><circle class="full" cx="28" cy="60" r="7"/></g></g></svg>'
    )
