"""The tab that opens the method: p, the noised token and both scores of one token."""

from typing import Any

import gradio as gr
import numpy as np

from app import present
from app.address import View, address
from app.charts import Axes, Chart, Line, Mark, around, equal_axes, side_by_side
from app.handlers import plain_errors
from app.requests import MAX_SEED, number, read_class, read_seed, whole
from app.scores import T_MAX, T_MIN, Look
from app.tab import LIVE, QUIET, Shared, Tab

BARS = 12  # codes of the first chart
DUST = 150  # codes of the third
EXPLAIN = """
## Inside the method

The teacher gives every code a probability **p** for the next token. Noise the token,
x_t = (1 − t)·x_0 + t·ε, and p turns into a score in closed form: each code weighs as much as p says
and as x_t allows, and the mean of the codes under these weights is **D_Φ**. The guidance network
learns the same mean, **D_ψ**, for images of the one-step model. Distillation moves the generator
until both agree, for every token given those before it.
"""


class InsideTab(Tab):
    """p over codes, and D_Φ and D_ψ against t, for a token of the visitor's choice."""

    id, title = "inside", "Inside the method"

    def build(self, shared: Shared) -> None:
        """See `Tab.build`."""
        pipe = self.models.default.pipe
        gr.Markdown(EXPLAIN, elem_classes="dd2-intro")
        with gr.Row(elem_classes="dd2-controls"):
            self.name = gr.Dropdown(pipe.class_names, value=pipe.class_names[0], label="Class")
            self.seed = gr.Number(0, minimum=0, maximum=MAX_SEED - 1, precision=0, label="Seed",
                                  min_width=120)
        with gr.Row(elem_classes="dd2-controls"):
            self.token = gr.Slider(1, pipe.teacher.num_tokens, value=_middle(pipe), step=1,
                                   label="Token", elem_id="token")
            self.time = gr.Slider(T_MIN, T_MAX, value=0.5, step=0.01, label="Noise level t",
                                  elem_id="noise")
        self.shown = gr.HTML("", elem_id="inside", elem_classes="dd2-flush")
        self.inputs = [shared.model, self.name, self.seed, self.token, self.time]
        self.outputs = [self.shown, shared.address]
        self.fitted = [*self.inputs[1:], self.shown]
        live = {"fn": self.paint, "inputs": self.inputs, "outputs": self.outputs, **LIVE}
        for event in (self.token.input(**live), self.time.input(**live), self.name.input(**live),
                      self.seed.input(**live)):
            shared.note_address(event)

    def fit(self, pipe: Any, view: View) -> list[Any]:
        """See `Tab.fit`."""
        names, most = pipe.class_names, pipe.teacher.num_tokens
        # The front tab's address may name all classes, which is no choice here.
        view = view.without() if view.given.get("class") in names else view.without("class")
        return [
            gr.Dropdown(choices=names, value=view.choice("class", names, names[0])),
            view.whole("seed", 0, MAX_SEED - 1, 0),
            gr.Slider(maximum=most, value=view.whole("token", 1, most, _middle(pipe))),
            view.number("t", T_MIN, T_MAX, 0.5),
            "",
        ]

    def arrive(self, event: Any, shared: Shared) -> None:
        """See `Tab.arrive`."""
        arrived = event.then(
            self.paint_in_front, [shared.where, *self.inputs], self.outputs, **QUIET, queue=False
        )
        shared.note_address(arrived)

    def paint_in_front(self, where: Any, *values: Any) -> tuple:
        """`paint`, if this tab is in front."""
        return self.paint(*values) if where == self.id else (gr.skip(), gr.skip())

    def paint(self, model: Any, name: Any, seed: Any, token: Any, time: Any) -> tuple[str, str]:
        """The image with the token's place, three charts, and the address."""
        samplers = self.models.get(model)
        pipe = samplers.pipe
        label = read_class(pipe, name)
        seed = min(read_seed("The seed", 0 if seed is None else seed), MAX_SEED - 1)
        token = whole("The token", token, 1, pipe.teacher.num_tokens)
        time = number("The noise level", time, T_MIN, T_MAX)
        with plain_errors():
            found = samplers.inside(label, seed, token - 1, time)
        query = address(self.id, model or pipe.name, class_=name, seed=seed, token=token,
                        t=f"{time:g}")
        return draw(found, name, token, time, pipe.teacher), query


def _middle(pipe: Any) -> int:
    """A token in the middle of the picture, more or less: neither sky nor floor."""
    return pipe.teacher.num_tokens // 2 + 1


def draw(found: Look, name: str, token: int, time: float, teacher: Any) -> str:
    """Everything about a token as HTML."""
    where = f"Token {token} of {teacher.num_tokens}, decided in step {found.step} of " \
            f"{teacher.num_steps}"
    plain = present.tile(found.image, f"{name}, painted by one step")
    marked = present.tile(mark(found.image, found.reach), f"{name}, the pixels that change with "
                                                          f"token {token} marked")
    pictures = (
        f'<div class="dd2-stage dd2-pair"><figure>{plain}<figcaption>The image</figcaption>'
        f'</figure><figure class="now">{marked}<figcaption>What this token changes</figcaption>'
        f'</figure></div><p class="dd2-machine">{where}; code {found.code} of '
        f"{len(found.p)}.</p>"
    )
    return pictures + side_by_side(codes(found, time), distances(found, time), plane(found, time))


def mark(image: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """The image in colour, the pixels of `reach` (H, W) tinted: uint8 (H, W, 3)."""
    colour = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image.copy()
    tint = np.array([20, 184, 166])
    colour[reach] = (0.45 * colour[reach] + 0.55 * tint).round()
    return colour.astype(np.uint8)


def codes(found: Look, time: float) -> Chart:
    """The likeliest codes: p as bars, and what the noised token leaves of it as dots."""
    best = np.argsort(-found.p, kind="stable")[:BARS]
    rank = int((found.p > found.p[found.code]).sum()) + 1
    bars, left = found.p[best].tolist(), found.weights[best].tolist()
    marks = [Mark(f"after seeing x_t, t = {time:g}", i + 1, w, "two") for i, w in enumerate(left)]
    top = max(0.02, *bars, *left) * 1.08
    axes = Axes((0.4, BARS + 0.6), (0, top), "codes, likeliest first", "probability")
    return Chart(
        "The teacher’s p over codes",
        f"the {len(bars)} likeliest codes hold {sum(bars):.0%} of p; the sampled code is number "
        f"{rank}",
        axes, marks=marks, bars=bars, lit=rank - 1 if rank <= BARS else None,
        note=f"The sampled code has p = {found.p[found.code]:.3f} and rank {rank}; these "
             f"{len(bars)} hold {sum(bars):.0%}.",
    )


def distances(found: Look, time: float) -> Chart:
    """How far both denoised means are from the clean token, and from each other, against t."""
    clean = found.codebook[found.code]
    phi, psi = _far(found.teacher, clean), _far(found.guidance, clean)
    apart = _far(found.teacher, found.guidance)
    t = found.times.tolist()
    axes = Axes((0, 1), around(phi, psi, apart, zero=True), "noise level t", "distance (RMS)")
    lines = (
        Line("D_Φ to the token", t, phi, "one"), Line("D_ψ to the token", t, psi, "two"),
        Line("between the two", t, apart, "quiet", dash=True),
    )
    at = int(np.abs(found.times - time).argmin())
    return Chart(
        "D_Φ and D_ψ against t",
        f"at t = {time:g} the teacher's mean is {phi[at]:.2f} from the token, ψ's {psi[at]:.2f}, "
        f"and they are {apart[at]:.2f} apart",
        axes, lines, upright=time,
        note=f"At t = {time:g}: {phi[at]:.2f} and {psi[at]:.2f} from the token, {apart[at]:.2f} "
             "apart. The codes’ own RMS is 1.",
    )


def _far(a: np.ndarray, b: np.ndarray) -> list[float]:
    return np.sqrt(np.square(a - b).mean(-1)).tolist()


def plane(found: Look, time: float) -> Chart:
    """Codes and the ways of x_t, D_Φ and D_ψ in the plane where the codes spread most."""
    centre = found.codebook.mean(0)
    _, _, axes = np.linalg.svd(found.codebook - centre, full_matrices=False)

    def flat(points: np.ndarray) -> np.ndarray:
        return (points - centre) @ axes[:2].T

    likely = np.argsort(-found.p)[:DUST]
    spots, radii = flat(found.codebook[likely]), 1.2 + 9 * np.sqrt(found.p[likely])
    ways = [flat(way) for way in (found.x, found.teacher, found.guidance)]
    at = int(np.abs(found.times - time).argmin())
    names = (("x_t", "quiet"), ("D_Φ", "one"), ("D_ψ", "two"))
    lines = [Line("", *way.T.tolist(), look, dash=name == "x_t")
             for way, (name, look) in zip(ways, names, strict=True)]
    marks = [Mark(name, *way[at].tolist(), look)
             for way, (name, look) in zip(ways, names, strict=True)]
    clean = flat(found.codebook[found.code])
    marks.append(Mark("the token", *clean.tolist(), "three", "cross"))
    x, y = np.concatenate([spots, *ways]).T
    return Chart(
        "Among the codes",
        f"the teacher's {len(likely)} likeliest codes as circles, larger where p is, and the ways "
        "of the noised token and of both means as t grows",
        equal_axes(x, y, "first principal axis", "second"), lines, marks,
        dust=[(*spot, r) for spot, r in zip(spots.tolist(), radii.tolist(), strict=True)],
        note="Circles: the likeliest codes, larger where p is. As t grows, both means leave the "
             "token for the mean of what is likely here.",
    )
