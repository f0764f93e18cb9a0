"""What runs a pipeline's networks: torch, or, on a CPU, onnxruntime with the same tokens.

`DD2_ENGINE=torch|onnx|auto` chooses, torch if it is not set. `onnx` takes the graphs from
`DD2_GRAPHS` (a folder, or a folder of folders by model name), else from the folder `onnx` inside
the model's, else writes them once into the user's cache. `auto` takes onnxruntime where graphs of
this very model are at hand and it is faster for both samplers, measured when the model is loaded.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.graphs import ABOUT, STEP
from dd2core.graphs.runtime import OnnxEngine
from dd2core.store.files import read_json
from dd2core.store.folder import Model
from dd2core.tools.images import to_uint8

log = logging.getLogger(__name__)
ENGINES = ("torch", "onnx", "auto")
READINGS = 3  # of each engine and sampler under `auto`; the fastest counts


class Engine(Protocol):
    """What a pipeline asks of whatever runs its networks.

    Attributes:
        name (str): torch or onnx.
    """

    name: str

    def tokens(self, eps: Tensor, labels: Tensor) -> Tensor:
        """One step: latents (B, L, C), labels (B,) → tokens (B, L)."""
        ...

    @property
    def steps(self) -> Callable[..., Iterator[tuple[Tensor, Tensor | None]]]:
        """As `Teacher.steps`."""
        ...

    def images(self, tokens: Tensor, step: int | None = None) -> Tensor:
        """Tokens (B, L) → uint8 (B, H, W, channels); as `Teacher.preview` where `step` is given."""
        ...


class TorchEngine:
    """The networks themselves, on any device."""

    name = "torch"

    def __init__(self, model: Model):
        self.model = model

    @torch.no_grad()
    def tokens(self, eps: Tensor, labels: Tensor) -> Tensor:
        """See `Engine`."""
        assert self.model.generator is not None
        return self.model.teacher.quantise(self.model.generator.generate(eps, labels))

    def steps(self, labels: Tensor, **settings: Any) -> Iterator[tuple[Tensor, Tensor | None]]:
        """See `Engine`."""
        return self.model.teacher.steps(labels, **settings)

    @torch.no_grad()
    def images(self, tokens: Tensor, step: int | None = None) -> Tensor:
        """See `Engine`."""
        teacher = self.model.teacher
        images = teacher.decode(tokens) if step is None else teacher.preview(tokens, step)
        return to_uint8(images).permute(0, 2, 3, 1)


def choose_engine(model: Model, wanted: str | None = None) -> Engine:
    """The engine for a model.

    Args:
        model (Model): as loaded.
        wanted (str | None): torch, onnx or auto; None is `DD2_ENGINE`, or torch.

    Raises:
        DD2Error: an unknown engine, or `onnx` where it cannot run.
    """
    wanted = wanted or os.environ.get("DD2_ENGINE") or "torch"
    if wanted not in ENGINES:
        raise DD2Error(f"DD2_ENGINE={wanted} is unknown: set it to torch, onnx or auto.")
    own = TorchEngine(model)
    if wanted == "torch":
        return own
    if wanted == "auto":
        return _faster(model, own)
    if model.teacher.device.type != "cpu":
        raise DD2Error(f"DD2_ENGINE=onnx runs on a CPU and the model is on "
                       f"{model.teacher.device.type}: set DD2_DEVICE=cpu, or DD2_ENGINE=torch.")
    folder = find_graphs(model)
    return OnnxEngine(folder if folder is not None else _made(model), model, own)


def find_graphs(model: Model) -> Path | None:
    """The folder of this very model's graphs, if there is one; see the module."""
    named = os.environ.get("DD2_GRAPHS")
    places = [Path(named), Path(named) / model.name] if named else []
    if model.folder is not None:
        places.append(model.folder / "onnx")
    places.append(_cache(model))
    for folder in places:
        if (folder / ABOUT).is_file() and (folder / STEP).is_file():
            if read_json(folder / ABOUT).get("weights") == weights_of(model):
                return folder
            log.warning("%s holds the graphs of other weights than %s has", folder, model.name)
    return None


def weights_of(model: Model) -> str:
    """See `dd2core.graphs.export.weights_of`."""
    from dd2core.graphs.export import weights_of as digest

    return digest(model)


def _cache(model: Model) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "dd2" / "graphs" / weights_of(model)[:32]


def _made(model: Model) -> Path:
    from dd2core.graphs.export import write_graphs

    return write_graphs(_cache(model), model)


def _faster(model: Model, own: TorchEngine) -> Engine:
    """onnxruntime where it can run, its graphs are there, and both samplers are faster with it."""
    if model.teacher.device.type != "cpu" or model.generator is None:
        return own
    try:
        folder = find_graphs(model)
        if folder is None:
            return own
        other = OnnxEngine(folder, model, own)
    except DD2Error as error:
        log.warning("engine: torch, since %s", error)
        return own
    labels = torch.zeros(1, dtype=torch.int64)
    teacher = model.teacher
    eps = torch.randn(1, teacher.num_tokens, teacher.code_dim,
                      generator=torch.Generator().manual_seed(0))
    noise = torch.full((1, teacher.num_tokens), 0.5)
    seconds = {}
    for engine in (own, other):
        seconds[engine.name] = (
            _least(lambda e=engine: e.images(e.tokens(eps, labels))),  # type: ignore[misc]
            _least(lambda e=engine: list(e.steps(  # type: ignore[misc]
                labels, **model.sampling.keywords(), noise=noise))),
        )
    log.info("engine: seconds of one step and of the teacher: %s", seconds)
    better = all(a < b for a, b in zip(seconds["onnx"], seconds["torch"], strict=True))
    return other if better else own


def _least(run: Callable[[], object]) -> float:
    run()  # the first call pays for caches
    best = float("inf")
    for _ in range(READINGS):
        since = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - since)
    return best
