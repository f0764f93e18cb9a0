"""The three graphs of a model as modules: the one place that knows which families have them."""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from dd2core.errors import DD2Error
from dd2core.families.codebook import CodebookTeacher
from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.var.teacher import VARTeacher
from dd2core.graphs.llamagen import LlamaGenPaint, LlamaGenStep, LlamaGenTrunk
from dd2core.graphs.parts import DecoderGraph, GeneratorGraph, StepGraph, Trunk
from dd2core.graphs.var import VARPaint, VARStep, VARTrunk
from dd2core.score_model import ConditionalScoreModel
from dd2core.teacher import Teacher


def _trunk(teacher: Teacher) -> Callable[[Any, int], Trunk]:
    return LlamaGenTrunk if isinstance(teacher, LlamaGenTeacher) else VARTrunk


def has_graphs(teacher: Teacher) -> bool:
    """Whether there are graphs for teachers of this kind."""
    return type(teacher) in (LlamaGenTeacher, VARTeacher)


def generator_graph(teacher: CodebookTeacher, model: ConditionalScoreModel) -> GeneratorGraph:
    """See `GeneratorGraph`."""
    trunk = _trunk(teacher)(model.backbone, cast(Any, teacher.transformer).cfg.heads)
    return GeneratorGraph(trunk, model, teacher.codebook).eval()


def step_graph(teacher: CodebookTeacher, guided: bool) -> StepGraph:
    """See `StepGraph`.

    Raises:
        DD2Error: a teacher of a kind that has no graphs.
    """
    if not has_graphs(teacher):
        raise DD2Error(f"{type(teacher).__name__} has no ONNX graphs: only the teachers of "
                       "LlamaGen and VAR have.")
    net = cast(Any, teacher.transformer)
    trunk = _trunk(teacher)(net.backbone, net.cfg.heads)
    if isinstance(teacher, VARTeacher):
        return VARStep(cast(VARTrunk, trunk), net.output, teacher.num_classes, guided,
                       teacher.strength).eval()
    return LlamaGenStep(trunk, net.output, teacher.num_classes, guided).eval()


def decoder_graph(teacher: CodebookTeacher) -> DecoderGraph:
    """See `DecoderGraph`."""
    paint: nn.Module = VARPaint(teacher) if isinstance(teacher, VARTeacher) \
        else LlamaGenPaint(cast(LlamaGenTeacher, teacher))
    own = copy.deepcopy(paint)  # the teacher's weights keep their order in memory
    return DecoderGraph(own.to(memory_format=torch.contiguous_format)).eval()
