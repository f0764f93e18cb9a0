"""`load_pipeline`: a trained model folder as three samplers with honest timing (method §5, §10).

    pipe = load_pipeline("fashion-llamagen")
    pipe.sample_one_step([0, 1, 2], seed=0).images
"""

import dataclasses
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.graphs.engine import Engine, TorchEngine, choose_engine
from dd2core.noise import gaussians, uniforms
from dd2core.sampling import Sampling
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.folder import Model, load_folder, resolve
from dd2core.tools.timing import best_threads, cpu_threads, synchronise

Labels = Sequence[int] | np.ndarray | Tensor  # one class per image
Result = TypeVar("Result")

MAX_IMAGES = 4096  # of one call; more is a mistake, not a batch


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a sampler returns.

    Attributes:
        images: uint8 (B, H, W, channels) numpy.
        tokens: int64 (B, L).
        seconds: token generation alone, device synchronised, never the first call of a shape.
        decode_seconds: tokens → images.
        passes: network forward passes; a guided pass of 2B rows counts as one.
        threads: CPU threads of the token generation, the count that was faster when the shape was
            warmed up, one or all; of the last sampler, if there were two.
    """

    images: np.ndarray
    tokens: Tensor
    seconds: float
    decode_seconds: float
    passes: int
    threads: int


@dataclasses.dataclass(frozen=True)
class Part(Sample):
    """A `Sample` on its way: `step` of `steps` are done; `seconds` is the sum so far,
    `decode_seconds` that of the finished images, 0 before."""

    step: int
    steps: int


class Pipeline:
    """Teacher, one-step generator and guidance network of one preset.

    Attributes:
        name, family: of the preset.
        class_names (list[str]): one per label.
        sampling (Sampling): the preset's teacher settings.
        teacher, generator, guidance: the networks; the last two are None in a folder without them.
        image_size (int): pixels a side.
        engine (Engine): what runs the networks, see `dd2core.graphs.engine`.
    """

    def __init__(self, model: Model, engine: Engine | None = None):
        self.model, self.engine = model, engine or TorchEngine(model)
        self.name, self.family = model.name, model.family
        self.class_names, self.sampling = model.class_names, model.sampling
        self.teacher, self.generator, self.guidance = model.teacher, model.generator, model.guidance
        self.image_size = model.image_size
        self._threads: dict[tuple, int] = {}  # by sampler and shape, once warmed up

    @property
    def device(self) -> torch.device:
        """Where the networks live."""
        return self.teacher.device

    def latents(self, n: int, seed: int = 0) -> Tensor:
        """Latents ε (n, L, C): standard normal, row i a function of (seed, i)."""
        n, seed = check_count(n), check_seed(seed)
        t = self.teacher
        return gaussians(n, t.num_tokens, t.code_dim, seed).to(self.device)

    def sample_teacher(
        self, labels: Labels, seed: int = 0, cfg: float | None = None,
        temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
    ) -> Sample:
        """AR sampling by the teacher in K sequential passes.

        Args:
            labels (list[int] | np.ndarray | Tensor): one class per image.
            seed (int): ≥ 0; image i depends on (seed, i, its label) alone.
            cfg, temperature, top_k, top_p: None is the preset's value.

        Returns:
            Sample

        Raises:
            DD2Error: a label, seed or setting out of its range.
        """
        *_, last = self.stream_teacher(labels, seed, cfg, temperature, top_k, top_p, every=10**9)
        return Sample(last.images, last.tokens, last.seconds, last.decode_seconds, last.passes,
                      last.threads)

    def stream_teacher(
        self, labels: Labels, seed: int = 0, cfg: float | None = None,
        temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
        every: int = 1,
    ) -> Iterator[Part]:
        """`sample_teacher`, yielding a `Part` after every `every` steps and at the end."""
        y = self.check_labels(labels)
        noise = uniforms(len(y), self.teacher.num_tokens, check_seed(seed))
        sampling = self.sampling.override(
            cfg=cfg, temperature=temperature, top_k=top_k, top_p=top_p)
        return self._stream(y, sampling, noise, None, 0, max(1, int(every)), 0.0)

    def sample_one_step(
        self, labels: Labels, seed: int = 0, latents: Tensor | None = None
    ) -> Sample:
        """One pass of the generator, nearest codes, decode.

        Args:
            labels: one class per image.
            seed (int): ≥ 0, of the latents.
            latents (Tensor | None): (B, L, C), in place of the seed's.

        Raises:
            DD2Error: a label, seed or latents out of range, or a model without a generator.
        """
        y = self.check_labels(labels)
        eps = self._latents(len(y), seed, latents)
        tokens, seconds = self._one_step(y, eps)
        images, decode_seconds = self._decode(tokens)
        threads = self._threads["one_step", len(y)]
        return Sample(images, tokens, seconds, decode_seconds, 1, threads)

    def refine(
        self, labels: Labels, seed: int = 0, start: int | None = None, cfg: float | None = None,
        temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
        latents: Tensor | None = None,
    ) -> Sample:
        """One step, then the teacher re-samples from step `start` on (method §5).

        Args:
            start (int | None): 0…K; K (and None) is plain one step. Passes: 1 + K − start.

        Others as in `sample_teacher` and `sample_one_step`.
        """
        y, steps = self.check_labels(labels), self.teacher.num_steps
        start = steps if start is None else check_whole(start, "start")
        if not 0 <= start <= steps:
            raise DD2Error(f"start={start} must lie in 0…{steps}, the teacher's steps.")
        if start == steps:
            return self.sample_one_step(y, seed, latents)
        tokens, seconds = self._one_step(y, self._latents(len(y), seed, latents))
        noise = uniforms(len(y), self.teacher.num_tokens, check_seed(seed))
        sampling = self.sampling.override(
            cfg=cfg, temperature=temperature, top_k=top_k, top_p=top_p)
        *_, last = self._stream(y, sampling, noise, tokens, start, 10**9, seconds)
        return Sample(last.images, last.tokens, last.seconds, last.decode_seconds,
                      1 + steps - start, last.threads)

    def check_labels(self, labels: Labels) -> Tensor:
        """Labels (B,) int64 on the device.

        Raises:
            DD2Error: none or too many, not whole numbers, or an unknown class.
        """
        try:
            array = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
        except (TypeError, ValueError, RuntimeError):  # ragged, or a dtype numpy lacks
            array = np.asarray(None)
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            if array.size == 0:
                raise DD2Error("labels is empty: ask for at least one image.")
            raise DD2Error("labels must be a list of whole numbers, one class per image.")
        check_count(len(array))
        bad = array[(array < 0) | (array >= len(self.class_names))]
        if bad.size:
            raise DD2Error(f"Class {bad[0]} is unknown: use 0…{len(self.class_names) - 1}.")
        return torch.from_numpy(array.astype(np.int64)).to(self.device)

    def _need_generator(self) -> ConditionalScoreModel:
        if self.generator is None:
            raise DD2Error(f"{self.name} has no generator: run the stages gts and csd first.")
        return self.generator

    def _latents(self, n: int, seed: int, latents: Tensor | None) -> Tensor:
        self._need_generator()
        if latents is None:
            return self.latents(n, seed)
        shape = (n, self.teacher.num_tokens, self.teacher.code_dim)
        fits = isinstance(latents, Tensor) and tuple(latents.shape) == shape
        if not fits or not latents.isfinite().all():
            raise DD2Error(f"latents must be finite numbers of shape {shape}.")
        return latents.to(self.device, torch.float32)

    def _one_step(self, y: Tensor, eps: Tensor) -> tuple[Tensor, float]:
        self._need_generator()
        return self._timed(("one_step", len(y)), lambda: self.engine.tokens(eps, y))

    def _stream(
        self, y: Tensor, sampling: Sampling, noise: Tensor, prefix: Tensor | None, start: int,
        every: int, seconds: float,
    ) -> Iterator[Part]:
        settings: dict[str, Any] = {
            **sampling.keywords(), "noise": noise, "prefix": prefix, "start": start}

        def warm_up() -> None:
            for _ in self.engine.steps(y, **settings):
                pass

        kind = ("teacher", len(y), self.teacher.is_guided(sampling.cfg))
        threads = self._suited((*kind, start), warm_up, (*kind, 0))
        steps, decode_seconds = self.teacher.num_steps, 0.0
        walk = self.engine.steps(y, **settings)
        for step in range(start, steps):
            with cpu_threads(threads):
                synchronise(self.device)
                since = time.perf_counter()
                tokens, _ = next(walk)
                synchronise(self.device)
                seconds += time.perf_counter() - since
            done = step + 1
            if done % every == 0 or done == steps:
                images, took = self._decode(tokens, step)
                decode_seconds = took if done == steps else decode_seconds
                yield Part(images, tokens.clone(), seconds, decode_seconds, done - start, threads,
                           done, steps)

    def _decode(self, tokens: Tensor, step: int | None = None) -> tuple[np.ndarray, float]:
        images, seconds = self._timed(
            ("decode", len(tokens)), lambda: self.engine.images(tokens, step))
        return images.cpu().numpy(), seconds

    def _timed(self, key: tuple, run: Callable[[], Result]) -> tuple[Result, float]:
        with cpu_threads(self._suited(key, run)):
            synchronise(self.device)
            since = time.perf_counter()
            result = run()
            synchronise(self.device)
            return result, time.perf_counter() - since

    def _suited(self, key: tuple, run: Callable[[], object], like: tuple = ()) -> int:
        """The count of threads for `run`, found at the first call of a shape, untimed; that of
        the shape `like`, if it is known, after one call."""
        if key not in self._threads and like in self._threads:
            with cpu_threads(self._threads[like]):
                run()
            self._threads[key] = self._threads[like]
        elif key not in self._threads:
            self._threads[key] = best_threads(run, self.device)
        return self._threads[key]


def check_count(n: SupportsIndex) -> int:
    """n as a number of images, 1…MAX_IMAGES, or DD2Error."""
    n = check_whole(n, "the number of images")
    if not 1 <= n <= MAX_IMAGES:
        raise DD2Error(f"{n} images cannot be made in one call: ask for 1 to {MAX_IMAGES}.")
    return n


def check_seed(seed: SupportsIndex) -> int:
    """seed as a whole number in 0…2⁶³−2, or DD2Error."""
    seed = check_whole(seed, "seed")
    if not 0 <= seed < 2**63 - 1:  # sample_seeds works modulo 2⁶³ − 1
        raise DD2Error(f"seed={seed} must be a whole number from 0 to 2^63 - 2.")
    return seed


def check_whole(value: SupportsIndex, what: str) -> int:
    """value as an int, or DD2Error; booleans and fractions are refused."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise DD2Error(f"{what} must be a whole number, not {value!r}.") from None


def load_pipeline(name: str, device: str = "auto", revision: str | None = None) -> Pipeline:
    """Load a shipped preset, a model folder, or a Hugging Face hub repository.

    Args:
        name (str): preset name (`fashion-llamagen`), path of a model folder, or hub id
            (`owner/name`).
        device (str): auto, cuda, mps or cpu.
        revision (str | None): commit or tag of a hub repository.

    Raises:
        DD2Error: nothing of that name, or files that are missing, damaged or of another model.
    """
    from dd2core.tools.device import pick_device

    model = load_folder(resolve(name, revision), pick_device(device))
    return Pipeline(model, choose_engine(model))


def as_labels(classes: Sequence[str | int], class_names: list[str]) -> list[int]:
    """Class names or numbers → labels.

    Raises:
        DD2Error: an unknown name; lists the known ones.
    """
    out = []
    for c in classes:
        if isinstance(c, str) and c not in class_names:
            raise DD2Error(f"Class {c!r} is unknown: use one of {', '.join(class_names)}.")
        if isinstance(c, str) and class_names.count(c) > 1:
            raise DD2Error(f"{class_names.count(c)} classes are called {c!r}: name it by number.")
        out.append(class_names.index(c) if isinstance(c, str) else c)
    return out
