"""Raw input → a checked request, or one clear sentence.

Handlers get JSON as the caller sent it (Gradio's own checks are off, since they log a traceback),
so this is the only gate between a stranger and the model.
"""

import random
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dd2core.sampling import Sampling

ALL_CLASSES = "All classes"
MAX_IMAGES = 64  # per request
MAX_FRAMES = 48  # of a morph
MAX_SEED = 2**32 - 1
SAMPLERS = ("one_step", "teacher")


@dataclass(frozen=True)
class Request:
    """What to paint."""

    labels: list[int]  # one class number per image
    names: list[str]  # one class name per image
    seed: int  # in [0, MAX_SEED]
    sampling: Sampling  # of the teacher

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.labels)


def refuse(sentence: str) -> gr.Error:
    """The error a user reads: the sentence alone, with no traceback in the log."""
    return gr.Error(sentence, print_exception=False)


def read_request(
    pipe: Any,
    class_name: Any,
    count: Any,
    seed: Any,
    cfg: Any,
    temperature: Any,
    top_k: Any,
    top_p: Any,
) -> Request:
    """Check everything a caller can send. A seed of None draws one, a setting of None is the
    preset's."""
    count = whole("The number of images", count, 1, MAX_IMAGES)
    labels = _labels(pipe.class_names, class_name, count)
    preset, codes = pipe.sampling, pipe.teacher.codebook.shape[0]
    sampling = Sampling(
        cfg=number("Guidance", _or(cfg, preset.cfg), 0.0, 20.0),
        temperature=number("The temperature", _or(temperature, preset.temperature), 0.05, 5.0),
        top_k=whole("Top-k", _or(top_k, preset.top_k), 0, codes),
        top_p=number("Top-p", _or(top_p, preset.top_p), 0.01, 1.0),
    )
    return Request(
        labels=labels,
        names=[pipe.class_names[label] for label in labels],
        seed=read_seed("The seed", seed),
        sampling=sampling,
    )


def read_seed(what: str, seed: Any) -> int:
    """A seed; None draws one."""
    if seed is None:
        return random.SystemRandom().randint(0, MAX_SEED)
    return whole(what, seed, 0, MAX_SEED)


def read_class(pipe: Any, name: Any) -> int:
    """The label of one class."""
    if name == ALL_CLASSES:
        raise refuse(f"{ALL_CLASSES} is no single class: choose one.")
    return _labels(pipe.class_names, name, 1)[0]


def check_sampler(sampler: Any) -> None:
    """Refuse what names no sampler."""
    if sampler not in SAMPLERS:
        raise refuse(f"Unknown sampler {quote(sampler)}: use {' or '.join(SAMPLERS)}.")


def all_classes(classes: int, count: int) -> list[int]:
    """The class of each of `count` images, all in turn; of more classes than images some from all
    over the list."""
    if count < classes:
        return [i * classes // count for i in range(count)]
    return [i % classes for i in range(count)]


def _labels(class_names: list[str], name: Any, count: int) -> list[int]:
    """The class of each image; see `all_classes`."""
    if name == ALL_CLASSES:
        return all_classes(len(class_names), count)
    if not isinstance(name, str) or name not in class_names:
        shown = ", ".join([ALL_CLASSES, *class_names[:10]])
        more = f" and {len(class_names) - 10} more" if len(class_names) > 10 else ""
        raise refuse(f"Unknown class {quote(name)}: choose one of {shown}{more}.")
    if class_names.count(name) > 1:
        raise refuse(f"{class_names.count(name)} classes are called {quote(name)}: rename one in "
                     "the model's config.json.")
    return [class_names.index(name)] * count


def whole(what: str, value: Any, low: int, high: int) -> int:
    """`value` as an int in [low, high]; 3.0 counts as whole, True and "3" do not."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:  # NaN and infinities are no integers either
        raise refuse(f"{what} must be a whole number from {low} to {high}, not {quote(value)}.")
    if not low <= value <= high:
        raise refuse(f"{what} must be from {low} to {high}, not {quote(value)}.")
    return int(value)


def number(what: str, value: Any, low: float, high: float) -> float:
    """`value` as a float in [low, high]; NaN and infinities are refused."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not low <= value <= high:  # a NaN fails every comparison
        raise refuse(f"{what} must be a number from {low:g} to {high:g}, not {quote(value)}.")
    return float(value)


def _or(value: Any, default: float) -> Any:
    return default if value is None else value


def quote(value: Any) -> str:
    """`value` as a caller would recognise it, cut short: it may be megabytes of nonsense."""
    try:
        text = repr(value)
    except ValueError:  # Python declines to print integers of more than 4,300 digits
        return "a number that long"
    return text if len(text) <= 60 else text[:57] + "…"
