"""Hugging Face's ZeroGPU, where the page may be running: a GPU that is lent per call.

There the package `spaces` is installed, and what it wraps runs in a process that has the GPU.
Elsewhere nothing is wrapped: the same code runs on whatever device the models were loaded on.
"""

import os
from collections.abc import Callable
from typing import Any

try:
    import spaces  # before anything touches CUDA
except ImportError:
    spaces = None

LENT = os.environ.get("SPACES_ZERO_GPU") == "true"  # set by Hugging Face
BASE_SECONDS = 20  # of a call: waking the GPU and warming a shape up
SECONDS_PER_IMAGE = 0.5


def seconds_for(images: int) -> int:
    """The GPU time to ask for, by batch."""
    return round(BASE_SECONDS + SECONDS_PER_IMAGE * images)


def on_gpu(task: Callable, images: Callable[..., int]) -> Callable:
    """`task`, run with the lent GPU where there is one.

    Args:
        task: a function or a generator function; its arguments are sent to another process.
        images: maps the same arguments to the number of images that they ask for.
    """
    if spaces is None:
        return task

    def duration(*arguments: Any, **options: Any) -> int:
        return seconds_for(images(*arguments, **options))

    return spaces.GPU(task, duration=duration)
