"""The graphs of a model in onnxruntime, on the CPU: samplers as torch has them, faster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.graphs import ABOUT, DECODER, GENERATOR, STEP
from dd2core.sampling import Sampling, invert_cdf
from dd2core.store.files import read_json, sha256
from dd2core.store.folder import Model
from dd2core.teacher import span_index


class Sessions:
    """The three graphs, opened once for every count of threads that is asked for.

    Args:
        folder (Path): of the graphs.

    Raises:
        DD2Error: onnxruntime is not installed, or a file is missing or damaged.
    """

    def __init__(self, folder: Path):
        try:
            import onnxruntime
        except ImportError:
            raise DD2Error("DD2_ENGINE=onnx needs onnxruntime: pip install -r "
                           "requirements-dev.txt, or set DD2_ENGINE=torch.") from None
        self.runtime, self.folder = onnxruntime, folder
        self.about = read_json(folder / ABOUT)
        for name, entry in self.about["files"].items():
            if not (folder / name).is_file() or sha256(folder / name) != entry["sha256"]:
                raise DD2Error(f"{folder / name} is missing or damaged: write the graphs again, "
                               "python -m train.export onnx=true.")
        self._open: dict[tuple[str, int], Any] = {}

    def get(self, name: str) -> Any:
        """The session of a graph on as many threads as torch is set to."""
        key = (name, torch.get_num_threads())
        if key not in self._open:
            options = self.runtime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = key[1], 1
            options.log_severity_level = 3
            # Idle threads sleep: they share the cores with torch's and with other processes.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._open[key] = self.runtime.InferenceSession(
                str(self.folder / name), options, providers=["CPUExecutionProvider"])
        return self._open[key]


class OnnxEngine:
    """See `dd2core.graphs.engine.Engine`.

    What the graphs cannot do (another use of guidance than the preset's), and everything once the
    model's weights have been changed in place, `other` does.

    Args:
        folder (Path): of the graphs.
        model (Model): whose they are, on the CPU.
        other (Any): the engine of torch.
    """

    name = "onnx"

    def __init__(self, folder: Path, model: Model, other: Any):
        self.sessions, self.model, self.other = Sessions(folder), model, other
        self.about = self.sessions.about
        networks = (model.generator, model.teacher.transformer, model.teacher.tokenizer)
        self._weights = [p for n in networks if n is not None for p in n.parameters()]
        self._versions = self._now()
        self.outputs = [f"present_{kind}_{i}" for i in range(len(self.about["heads"]))
                        for kind in ("key", "value")]

    def _now(self) -> int:
        return sum(p._version for p in self._weights)

    def _is_stale(self) -> bool:
        return self._now() != self._versions

    def tokens(self, eps: Tensor, labels: Tensor) -> Tensor:
        """See `Engine`."""
        if self._is_stale():
            return self.other.tokens(eps, labels)
        feed = {"latents": eps.contiguous().numpy(), "labels": labels.numpy()}
        return torch.from_numpy(self.sessions.get(GENERATOR).run(None, feed)[0])

    def images(self, tokens: Tensor, step: int | None = None) -> Tensor:
        """See `Engine`."""
        if self._is_stale():
            return self.other.images(tokens, step)
        spans = self.model.teacher.spans
        upto = spans[-1 if step is None else step][1]
        feed = {"tokens": tokens.contiguous().numpy(), "upto": np.array([upto])}
        return torch.from_numpy(self.sessions.get(DECODER).run(None, feed)[0])

    def steps(
        self, labels: Tensor, cfg: float | None = None, temperature: float = 1.0, top_k: int = 0,
        top_p: float = 1.0, noise: Tensor | None = None, prefix: Tensor | None = None,
        start: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """As `CodebookTeacher.steps`, without `choose`."""
        sampling, teacher = Sampling(cfg, temperature, top_k, top_p), self.model.teacher
        if self._is_stale() or teacher.is_guided(cfg) != self.about["guided"]:
            yield from self.other.steps(labels, **sampling.keywords(), noise=noise, prefix=prefix,
                                        start=start)
            return
        b, n = labels.shape[0], teacher.num_tokens
        noise = torch.rand(b, n) if noise is None else noise
        tokens = torch.zeros(b, n, dtype=torch.int64) if prefix is None else prefix.clone()
        walk = Walk(self, labels, cfg)
        for step in range(start, teacher.num_steps):
            where = span_index(teacher.spans[step])
            with torch.no_grad():
                log_p = sampling.filter(walk.logits(tokens, step))
                tokens[:, where] = invert_cdf(log_p, noise[:, where])
            yield tokens, log_p


class Walk:
    """One image's way through the steps: keys and values stay inside onnxruntime.

    Args:
        engine (OnnxEngine): whose graphs.
        labels (Tensor): (B,).
        cfg (float | None): strength of guidance.
    """

    def __init__(self, engine: OnnxEngine, labels: Tensor, cfg: float | None):
        self.engine, self.seen = engine, 0
        value = engine.sessions.runtime.OrtValue.ortvalue_from_numpy
        self._value, rows = value, 2 if engine.about["guided"] else 1
        self.fixed = {"labels": value(labels.numpy()),
                      "strength": value(np.array([cfg or 0.0], np.float32))}
        self.past: dict[str, Any] = {}
        for i, (heads, width) in enumerate(engine.about["heads"]):
            none = value(np.zeros((rows, len(labels), heads, 0, width), np.float32))
            self.past |= {f"past_key_{i}": none, f"past_value_{i}": none}

    def logits(self, tokens: Tensor, step: int) -> Tensor:
        """Guided logits (B, n, V) of the span of `step`; tokens (B, L) before it count."""
        first, last = self.engine.model.teacher.spans[step]
        feed = {"tokens": self._value(tokens.numpy()), **self.fixed,
                "positions": self._value(np.arange(self.seen, last)), **self.past}
        session = self.engine.sessions.get(STEP)
        found = session.run_with_ort_values(["logits", *self.engine.outputs], feed)
        self.past = dict(zip(self.past, found[1:], strict=True))
        self.seen = last
        return torch.from_numpy(found[0].numpy()[:, first - last :])
