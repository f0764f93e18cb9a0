"""Modules → ONNX files: traced with a free batch, then half the bytes.

The exporter that traces (`dynamo=False`) writes a graph in seconds, with every torch of the range
and without onnxscript; the newer one takes minutes for the same operations. What a trace freezes in
silence is a dimension that was read as a plain number: the graphs read shapes from tensors, and
`tests/graphs` runs each of them at sizes it was not traced with.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.store.atomic import write_atomic

OPSET = 20  # the first with Gelu
SMALL = 64  # numbers; a shorter constant is not worth a Cast
Free = dict[str, dict[int, str]]  # input → {dimension: its name}, those that stay free


def write(path: Path, graph: nn.Module, inputs: dict[str, Tensor], outputs: list[str], free: Free
          ) -> None:
    """Write a graph as ONNX, weights in float16 where nothing is lost.

    Args:
        path (Path): the file.
        graph (nn.Module): one of `dd2core.graphs.build`.
        inputs (dict[str, Tensor]): examples by name, in order.
        outputs (list[str]): names, in order.
        free (Free): the dimensions that stay free.

    Raises:
        DD2Error: `onnx` is not installed, or the file cannot be written.
    """
    try:
        import onnx
    except ImportError:
        raise DD2Error("Writing ONNX needs the package onnx: pip install -r requirements-dev.txt."
                       ) from None
    file: Any = io.BytesIO()
    with _quiet(), torch.no_grad():
        torch.onnx.export(graph, tuple(inputs.values()), file, input_names=list(inputs),
                          output_names=outputs, dynamic_axes=free, opset_version=OPSET,
                          dynamo=False)
    model = onnx.load_from_string(file.getvalue())
    for node in model.graph.node:  # where each came from in the source: longer than the node
        node.doc_string = ""
    halve(model)
    onnx.checker.check_model(model)
    write_atomic(path, model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The one operation that the exporter lacks, and no word about its age."""
    torch.onnx.register_custom_op_symbolic("aten::mT", _swap_last, OPSET)
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
        torch.onnx.unregister_custom_op_symbolic("aten::mT", OPSET)


def _swap_last(g: Any, x: Any) -> Any:
    rank = x.type().dim()
    return g.op("Transpose", x, perm_i=[*range(rank - 2), rank - 1, rank - 2])


def halve(model: Any) -> int:
    """Store the float32 constants of an ONNX model in float16, with a Cast each, where the way
    there and back is exact. Returns the bytes saved."""
    import onnx
    from onnx import TensorProto, numpy_helper

    saved, casts = 0, []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        wide = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = wide.astype(np.float16)
        if wide.size < SMALL or not np.array_equal(half.astype(np.float32), wide):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
        saved += half.nbytes
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *rest])
    return saved
