"""ONNX graphs of official sizes, weights random: `python -m tests.harness.official_graphs`.

Shows that a preset's networks export at their true size, and that onnxruntime then gives what torch
gives. Each graph is written and compared in a process of its own, one image on one thread; files go
to a temporary folder. Weights are random and rounded to float16, as trained ones are stored.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.graphs import DECODER, GENERATOR, STEP
from dd2core.graphs.build import decoder_graph, generator_graph, step_graph
from dd2core.graphs.export import decoder_file, generator_file, past_names, step_file, two_each
from dd2core.noise import gaussians
from train.engine.assemble import new_score_model
from train.measure.cost import build_teacher
from train.settings.cli import load_config

GRAPHS = (GENERATOR, DECODER, STEP)


@torch.no_grad()
def rounded(network: torch.nn.Module) -> None:
    """Fill what starts at zero, and round to float16."""
    for p in network.parameters():
        if p.ndim > 1 and not p.any():
            p.normal_(0, 0.02)
        p.copy_(p.half().float())


def compare(part: str, teacher: torch.nn.Module, cfg: object, path: Path) -> dict[str, object]:
    """Write one graph and run it beside torch's."""
    import onnxruntime

    labels, feed = torch.tensor([7]), {}
    tokens = torch.randint(teacher.num_codes, (1, teacher.num_tokens))
    if part == GENERATOR:
        model = new_score_model(cfg, teacher, False).requires_grad_(False).eval()
        rounded(model)
        generator_file(path, teacher, model)
        graph = generator_graph(teacher, model)
        feed = {"latents": gaussians(1, teacher.num_tokens, teacher.code_dim, 0), "labels": labels}
    elif part == DECODER:
        decoder_file(path, teacher)
        graph = decoder_graph(teacher)
        feed = {"tokens": tokens, "upto": torch.tensor([teacher.num_tokens])}
    else:
        step_file(path, teacher, True)
        graph = step_graph(teacher, True)
        feed = {"tokens": tokens, "labels": labels, "strength": torch.tensor([1.5]),
                "positions": torch.arange(3)}
        for name, (heads, width) in zip(past_names(graph), two_each(graph.trunk.shapes),
                                        strict=True):
            feed[name] = torch.zeros(2, 1, heads, 0, width)
    with torch.no_grad():
        wanted = graph(*feed.values())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.run(None, {key: value.numpy() for key, value in feed.items()})[0]
    return difference(wanted[0] if part == STEP else wanted, torch.from_numpy(found))


def difference(wanted: Tensor, found: Tensor) -> dict[str, object]:
    """Shape, share of numbers that are equal, largest difference."""
    apart = (wanted.double() - found.double()).abs()
    return {"shape": list(found.shape), "equal": float((apart == 0).double().mean()),
            "largest_difference": float(apart.max())}


def one(preset: str, part: str) -> None:
    """A part, in this process: prints JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    since, cfg = time.perf_counter(), load_config([f"preset={preset}"])
    teacher = build_teacher(cfg, "cpu")
    for network in (teacher.transformer, teacher.tokenizer):
        rounded(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / part
        result = compare(part, teacher, cfg, path)
        result["megabytes"] = round(path.stat().st_size / 1e6, 1)
    result["seconds"] = round(time.perf_counter() - since, 1)
    result["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)
    print(json.dumps({"preset": preset, "graph": part, **result}))


def main(arguments: list[str]) -> None:
    """Presets; one with `GRAPH.onnx` behind it is measured in this process."""
    if arguments and arguments[-1] in GRAPHS:
        one(*arguments)
        return
    for preset in arguments or ["llamagen-b", "var-d16"]:
        for part in GRAPHS:
            subprocess.run([sys.executable, "-m", "tests.harness.official_graphs", preset, part],
                           check=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DD2Error as error:
        raise SystemExit(f"tests.harness.official_graphs: {error}") from None
