"""`write_graphs`: a model → a folder of its graphs and `web.json`; see `dd2core.graphs`."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.families.codebook import CodebookTeacher
from dd2core.graphs import ABOUT, DECODER, GENERATOR, STEP
from dd2core.graphs.build import decoder_graph, generator_graph, has_graphs, step_graph
from dd2core.graphs.parts import StepGraph
from dd2core.graphs.write import Free, write
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.files import fingerprint, sha256, write_json
from dd2core.store.folder import Model
from dd2core.teacher import Span

FORMAT = 1  # of web.json


def write_graphs(out: Path, model: Model) -> Path:
    """Write the graphs of a model and `web.json`, and return the folder.

    Args:
        out (Path): made if it is not there; files of these names are written over.
        model (Model): with a generator, on the CPU.

    Raises:
        DD2Error: it has no generator, or a teacher without graphs; a library is missing.
    """
    teacher = model.teacher
    if model.generator is None:
        raise DD2Error(f"{model.name} has no generator: run the stages gts and csd first.")
    if not isinstance(teacher, CodebookTeacher) or not has_graphs(teacher):
        raise DD2Error(f"{model.name} is of the family {model.family}, which has no ONNX graphs: "
                       "only llamagen and var have.")
    guided = teacher.is_guided(model.sampling.cfg)
    generator_file(out / GENERATOR, teacher, model.generator)
    decoder_file(out / DECODER, teacher)
    step_file(out / STEP, teacher, guided)
    write_json(out / ABOUT, about(model, guided, out))
    return out


def about(model: Model, guided: bool, out: Path) -> dict[str, Any]:
    """What web.json says."""
    teacher = model.teacher
    assert isinstance(teacher, CodebookTeacher)
    graph = step_graph(teacher, guided)
    files = {name: {"sha256": sha256(out / name), "bytes": (out / name).stat().st_size}
             for name in (GENERATOR, DECODER, STEP)}
    return {
        "format": FORMAT, "name": model.name, "family": model.family,
        "class_names": model.class_names, "sampling": dataclasses.asdict(model.sampling),
        "guided": guided, "image_size": model.image_size,
        "channels": cast(Any, teacher.tokenizer.cfg).in_channels,
        "num_tokens": teacher.num_tokens, "code_dim": teacher.code_dim,
        "num_codes": teacher.num_codes, "spans": [_pair(span) for span in teacher.spans],
        "weights": weights_of(model), "heads": [list(shape) for shape in graph.trunk.shapes],
        "files": files,
    }


def weights_of(model: Model) -> str:
    """What tells the graphs of one model from those of another: a digest of its weights."""
    networks = (model.teacher.tokenizer, model.teacher.transformer, model.generator)
    digest = hashlib.sha256()
    for network in networks:
        if network is not None:
            digest.update(fingerprint(network).encode())
    return digest.hexdigest()


def _pair(span: Span) -> list[int]:
    assert isinstance(span, tuple)
    return list(span)


def generator_file(path: Path, teacher: CodebookTeacher, model: ConditionalScoreModel) -> None:
    """Write generator.onnx; see `dd2core.graphs`."""
    like = teacher.codebook
    inputs = {"latents": like.new_zeros(2, teacher.num_tokens, teacher.code_dim),
              "labels": _labels(like)}
    write(path, generator_graph(teacher, model), inputs, ["tokens"],
          {name: {0: "batch"} for name in (*inputs, "tokens")})


def decoder_file(path: Path, teacher: CodebookTeacher) -> None:
    """Write decoder.onnx; see `dd2core.graphs`."""
    inputs = {"tokens": _tokens(teacher), "upto": torch.full((1,), teacher.num_tokens)}
    write(path, decoder_graph(teacher), inputs, ["images"],
          {name: {0: "batch"} for name in ("tokens", "images")})


def step_file(path: Path, teacher: CodebookTeacher, guided: bool) -> None:
    """Write teacher_step.onnx; see `dd2core.graphs`."""
    graph, like = step_graph(teacher, guided), teacher.codebook
    inputs = {"tokens": _tokens(teacher), "labels": _labels(like), "strength": like.new_zeros(1),
              "positions": torch.arange(teacher.num_tokens - 2, teacher.num_tokens)}
    free: Free = {"tokens": {0: "batch"}, "labels": {0: "batch"}, "positions": {0: "n"},
                  "logits": {0: "batch", 1: "n"}}
    outputs = ["logits"]
    for name, (heads, width) in zip(past_names(graph), two_each(graph.trunk.shapes), strict=True):
        inputs[name] = like.new_zeros(2 if guided else 1, 2, heads, teacher.num_tokens - 2, width)
        outputs.append(name.replace("past", "present"))
        free[name], free[outputs[-1]] = {1: "batch", 3: "before"}, {1: "batch", 3: "after"}
    write(path, graph, inputs, outputs, free)


def past_names(graph: StepGraph) -> list[str]:
    """Names of the inputs that hold keys and values."""
    return [f"past_{kind}_{i}" for i in range(len(graph.trunk.shapes)) for kind in ("key", "value")]


def two_each(shapes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Each shape twice: keys and values."""
    return [shape for shape in shapes for _ in range(2)]


def _labels(like: Tensor) -> Tensor:
    return torch.zeros(2, dtype=torch.int64, device=like.device)


def _tokens(teacher: CodebookTeacher) -> Tensor:
    return torch.zeros(2, teacher.num_tokens, dtype=torch.int64, device=teacher.codebook.device)
