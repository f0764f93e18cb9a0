"""The button of the result card, which `card.js` draws in the browser."""

from app.serve.runs import Run


def card_button(teacher: Run | None) -> str:
    """Enabled once the result is there.

    Args:
        teacher: its run so far.
    """
    ready = "" if teacher is not None and teacher.final else " disabled"
    return (
        f'<p class="dd2-card"><button type="button" class="dd2-replay" id="card"{ready} '
        'onclick="dd2.card.save()">Result card to share</button></p>'
    )
