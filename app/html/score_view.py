"""One token under the microscope, as pictures, words and charts; and the training curves."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from app.html import present
from app.html.charts import Axes, Chart, Line, Mark, around, equal_axes
from app.serve.token_score import Token, covered
from dd2core.results.training import read_log

SHOWN_CODES = 24  # bars
DUST = 160  # circles, of the likeliest codes
LARGEST = 14  # radius of a circle, in units of the view box
CURVES = {  # of the training logs: field, its name, what it should do
    "loss": "loss", "nll": "teacher’s NLL of G’s tokens", "fcs": "FCS loss of ψ",
    "entropy": "entropy of G’s tokens", "accuracy": "accuracy",
}


def whole_picture(pipe: Any, token: Token, name: str) -> str:
    """The image, with a frame around what the token covers."""
    text = f"{name}, painted in one step; the frame marks token {token.place + 1}"
    frame = ""
    if (box := covered(pipe.teacher.spans, token.place)) is not None:
        rule = zip(("left", "top", "width", "height"), (*box, box[2]), strict=True)
        frame = f'<i style="{";".join(f"{key}:{share:.2%}" for key, share in rule)}"></i>'
    return f'<div class="dd2-frame">{present.tile(token.image, text)}{frame}</div>'


def says(token: Token) -> str:
    """The token in words."""
    rank = int((token.p > token.p[token.code]).sum()) + 1
    return (
        f"Token {token.place + 1}, decided at step {token.step + 1}. Before it is seen, the "
        f"teacher hesitates between about <b>{_many(token.p)}</b> of {len(token.p)} codes; the one "
        f"that was painted has p = {token.p[token.code]:.3f} and is its choice number {rank}. "
        f"With {token.time:.0%} noise on it, about <b>{_many(token.after)}</b> codes remain."
    )


def _many(p: np.ndarray) -> str:
    """exp of the entropy: how many codes a distribution is spread over."""
    p = p[p > 0].astype(np.float64)
    return f"{math.exp(-(p * np.log(p)).sum()):.1f}"


def charts_of(token: Token) -> list[Chart]:
    """p over codes; the plane; the first direction against t; the gap against t."""
    charts = [_bars(token), _plane_chart(token), _coordinate(token)]
    if token.gap is not None:
        charts.append(_gap(token))
    return charts


def _bars(token: Token) -> Chart:
    likely = np.argsort(-token.p, kind="stable")[:SHOWN_CODES]
    before, after = token.p[likely], token.after[likely]
    lit = [i for i, code in enumerate(likely) if code == token.code]
    rest = 1 - before.sum()
    top = max(float(before.max()), 1e-6)
    return Chart(
        "What the teacher expects here: p",
        f"The likeliest code has p = {before[0]:.3f}; the {len(likely)} likeliest hold "
        f"{before.sum():.0%}.",
        Axes((0.3, len(likely) + 0.7), (0, 1.08 * top), "codes, the likeliest first", "p"),
        bars=before.tolist(), lit=lit[0] if lit else None,
        lines=[Line("after seeing x_t (cut off at the top)", range(1, len(likely) + 1),
                    np.minimum(after, 1.08 * top).tolist(), "three", bare=True)],
        note=f"The strong bar is the painted code{'' if lit else ', which is further right'}. The "
             f"other {len(token.p) - len(likely)} codes hold {rest:.0%}.",
    )


def _plane_chart(token: Token) -> Chart:
    here = int(np.argmin(np.abs(token.times - token.time)))
    likely = np.argsort(-token.p, kind="stable")[:DUST]
    radius = LARGEST * np.sqrt(token.p[likely] / token.p.max())
    spots = [(*token.codes[j], max(0.8, float(r))) for j, r in zip(likely, radius, strict=True)]
    near = np.concatenate([token.codes[likely[:40]], token.teacher, token.noised[here : here + 1],
                           token.codes[token.code][None]])
    lines = [_path("D_Φ, teacher, from t = 1 to 0", token.teacher, "two")]
    marks = [Mark("", *token.teacher[here], "two"),
             Mark("x_t", *token.noised[here], "quiet", "cross"),
             Mark("x_0, the painted code", *token.codes[token.code], "three")]
    if token.fake is not None:
        near = np.concatenate([near, token.fake])
        lines.append(_path("D_ψ, guidance network", token.fake, "one"))
        marks.insert(1, Mark("", *token.fake[here], "one"))
    return Chart(
        "The codes, and where both networks point",
        f"At t = {token.time:g} both means lie among the likely codes.",
        equal_axes(near[:, 0], near[:, 1], "direction of most spread", "second direction"),
        lines, marks, spots,
        note="Circles are codes, their area is p. Dots: the means at the chosen t.",
    )


def _path(name: str, points: np.ndarray, look: str) -> Line:
    return Line(name, points[:, 0].tolist(), points[:, 1].tolist(), look)


def _coordinate(token: Token) -> Chart:
    t = token.times.tolist()
    lines = [Line("x_t", t, token.noised[:, 0].tolist(), "quiet", dash=True),
             Line("D_Φ", t, token.teacher[:, 0].tolist(), "two")]
    if token.fake is not None:
        lines.append(Line("D_ψ", t, token.fake[:, 0].tolist(), "one"))
    return Chart(
        "Along the first direction, against t",
        "Without noise both means are the painted code, with much noise the average of p.",
        Axes((0, 1), around(*(line.y for line in lines)), "t, the share of noise", "coordinate"),
        lines, upright=token.time,
    )


def _gap(token: Token) -> Chart:
    return Chart(
        "What training acts on: the gap of the two",
        f"The largest gap is {token.gap.max():.2f}.",
        Axes((0, 1), around(token.gap.tolist(), zero=True), "t, the share of noise",
             "distance of the two"),
        [Line("", token.times.tolist(), token.gap.tolist(), "three")], upright=token.time,
        note="Where it is zero, the one-step model paints this token as the teacher would.",
    )


def training_charts(logs: list[Path]) -> list[Chart]:
    """The curves of every stage's log that a reader would ask for."""
    charts = []
    for path in logs:
        rows = read_log(path)
        for name, title in CURVES.items():
            points = [(r["step"], r[name]) for r in rows
                      if all(isinstance(r.get(k), int | float) for k in ("step", name))]
            if len(points) > 1:
                charts.append(_training_chart(path.stem, title, points))
    return charts


def _training_chart(stage: str, title: str, points: list[tuple[float, float]]) -> Chart:
    x, y = zip(*points, strict=True)
    return Chart(
        f"{stage}: {title}", f"From {y[0]:.3g} at step {x[0]:,} to {y[-1]:.3g} at step {x[-1]:,}.",
        Axes((0, x[-1]), around(y), "step", title.split(" of ")[0]), [Line("", x, y, "one")],
    )
