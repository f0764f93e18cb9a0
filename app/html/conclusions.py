"""What to conclude from each table of Results, in one sentence that its numbers make.

Each function takes what was measured and returns plain text, empty where a number is missing.
"""

import re

from dd2core.results.collection import Results
from dd2core.results.schema import Measurement
from dd2core.results.tables import few_steps

NEAR = 1.05  # times the teacher's FD: what few passes are said to reach


def quality(results: Results) -> str:
    """One pass beside the teacher."""
    one, teacher = _one(results), _teacher(results)
    if one is None or teacher is None:
        return ""
    said = (f"One pass comes to {_name(one)} {one.fd:.2f} where the teacher's {teacher.passes} "
            f"passes come to {teacher.fd:.2f}")
    parts = [(word, getattr(one, key), getattr(teacher, key))
             for word, key in (("accurate", "accuracy"), ("varied", "recall"))]
    told = [f"{_less(a, b)} {word} ({a:.2f} against {b:.2f})"
            for word, a, b in parts if a is not None and b is not None]
    return f"{said}; its images are {' and '.join(told)}." if told else f"{said}."


def speed(results: Results) -> str:
    """The ratio for a single image and for the largest batch."""
    if results.speed is None or not results.speed.rows:
        return ""
    rows = results.speed.rows
    first, last = rows[0], rows[-1]
    said = (f"A batch of {first.batch} is painted {first.ratio_with_decoding:.1f} times as fast in "
            "one step, decoding included")
    return f"{said}; a batch of {last.batch}, {last.ratio_with_decoding:.1f} times." \
        if last is not first else f"{said}."


def refine(results: Results) -> str:
    """How many passes it takes to be as good as the teacher."""
    teacher = _teacher(results)
    rows = [m for _, name, m in few_steps(results) if name != "teacher"]
    if teacher is None or not rows:
        return ""
    enough = [m.passes for m in rows if m.fd <= NEAR * teacher.fd]
    if not enough:
        return f"No count of passes that was measured comes within {NEAR - 1:.0%} of the teacher."
    least = min(enough)
    word = "pass comes" if least == 1 else "passes come"
    return (f"{least} {word} within {NEAR - 1:.0%} of the FD that the teacher reaches in "
            f"{teacher.passes}.")


def guidance(results: Results) -> str:
    """The best guidance scale."""
    rows = results.of("guidance")
    if len(rows) < 2:
        return ""
    best = min(rows, key=lambda m: m.fd)
    return f"The teacher's FD is lowest, {best.fd:.2f}, at guidance {best.teacher_settings.cfg:g}."


def training(_: Results) -> str:
    """What the minutes are of."""
    return "The minutes are of the whole recipe, from an untrained tokenizer to the one-step model."


def tried(_: Results) -> str:
    """How to read estimates."""
    return "These few samples only told which way to go on: compare rows of equal N."


def plain(title: str) -> str:
    """The name of a run in words."""
    title = re.sub(r"\(sweep-rate (\S+)\)", r"(short run, learning rate \1)", title)
    title = re.sub(r"\(rate (\S+)\)", r"(learning rate \1)", title)
    title = re.sub(r"DD2 early \((\d+)\)", r"DD2, one step, after \1 updates", title)
    return title.replace("AR teacher", "teacher, step by step").replace("floor: ", "limit: ")


def is_best(m: Measurement, others: list[Measurement]) -> bool:
    """Whether a one-pass sampler is the best of them by FD, and by recall too."""
    rivals = [o for o in others if o.passes == 1]
    recalls = [o.recall for o in rivals if o.recall is not None]
    return bool(rivals) and m.fd == min(o.fd for o in rivals) and (
        not recalls or m.recall == max(recalls))


def _one(results: Results) -> Measurement | None:
    return next((m for m in results.of("quality") if m.method == "one_step"), None)


def _teacher(results: Results) -> Measurement | None:
    return next((m for m in results.measurements if results.is_presets_teacher(m)), None)


def _name(m: Measurement) -> str:
    return "FID" if m.inception_score is not None else "FD"


def _less(a: float, b: float) -> str:
    return "as" if abs(a - b) <= 0.02 else "less" if a < b else "more"
