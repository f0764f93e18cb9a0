"""One image by a model of the official size, on CPU: `python -m train.fullsize model=llamagen-b`.

The weights are random: this shows that the networks of a preset fit and run, and what time and
memory they take. Each part runs in a fresh process, so that its peak memory is its own: the
teacher with guidance and KV cache, the one-step generator, the decoder.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from dd2core.errors import DD2Error
from dd2core.noise import gaussians, uniforms
from dd2core.teacher import Teacher
from train.engine.assemble import new_score_model
from train.measure.cost import build_teacher, count
from train.results.plans import print_table
from train.settings.cli import load_config, main
from train.settings.schema import Config

PARTS = {  # part → what it is
    "teacher": "AR teacher, guided", "one_step": "one-step generator", "decode": "decoder",
}


@dataclass
class FullSize:
    """Settings of `train.fullsize`."""

    model: str = "llamagen-b"  # preset
    part: str | None = None  # teacher, one_step or decode, in this process; None: each in its own
    batch: int = 1  # images
    repeats: int = 2  # calls; the fastest is told, the first warms up
    threads: int | None = None  # CPU threads; None leaves torch's choice
    seed: int = 0  # of weights and latents
    plans: bool = False  # instead: what training costs, beside the paper (`train.results.plans`)
    of: list[str] = field(default_factory=list)  # plans: of these presets; none is all


def _teacher_call(cfg: Config, o: FullSize) -> tuple[Callable, dict[str, int]]:
    teacher, s = build_teacher(cfg, "cpu"), cfg.sampling
    labels = torch.arange(o.batch) % teacher.num_classes
    u = uniforms(o.batch, teacher.num_tokens, o.seed)
    return (lambda: teacher.sample(labels, **s.keywords(), noise=u)), {
        "parameters": count(teacher.transformer), "passes": teacher.num_steps}


def _one_step_call(cfg: Config, o: FullSize) -> tuple[Callable, dict[str, int]]:
    teacher = build_teacher(cfg, "cpu")
    model = new_score_model(cfg, teacher, False).requires_grad_(False).eval()
    teacher.transformer = None  # the generator has its own copy
    labels = torch.arange(o.batch) % teacher.num_classes
    eps = gaussians(o.batch, teacher.num_tokens, teacher.code_dim, o.seed)
    return (lambda: teacher.quantise(model.generate(eps, labels))), {
        "parameters": count(model), "passes": 1}


def _decode_call(cfg: Config, o: FullSize) -> tuple[Callable, dict[str, int]]:
    teacher: Teacher = build_teacher(cfg, "cpu")
    teacher.transformer = None
    tokens = torch.randint(teacher.num_codes, (o.batch, teacher.num_tokens))
    return (lambda: teacher.decode(tokens)), {
        "parameters": count(teacher.tokenizer), "passes": 1}


CALLS = {"teacher": _teacher_call, "one_step": _one_step_call, "decode": _decode_call}


def measure(o: FullSize) -> dict[str, float]:
    """Seconds, MiB and sizes of one part, in this process."""
    torch.manual_seed(o.seed)
    if o.threads:
        torch.set_num_threads(o.threads)
    call, sizes = CALLS[o.part](load_config([f"preset={o.model}"]), o)
    seconds = []
    with torch.inference_mode():
        for _ in range(o.repeats):
            since = time.perf_counter()
            out = call()
            seconds.append(time.perf_counter() - since)
    if not out.isfinite().all():
        raise DD2Error(f"{o.part} of {o.model} gave numbers that are not finite.")
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return {**sizes, "seconds": min(seconds), "peak_mib": peak, "shape": list(out.shape),
            "threads": torch.get_num_threads()}


def fresh(o: FullSize, part: str) -> dict[str, float]:
    """`measure` of one part in a process of its own."""
    words = [f"{k}={v}" for k, v in vars(o).items() if k != "part" and v is not None]
    done = subprocess.run([sys.executable, "-m", "train.fullsize", *words, f"part={part}"],
                          capture_output=True, text=True)
    if done.returncode:
        raise DD2Error(f"{part} of {o.model} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def table(o: FullSize, measured: dict[str, dict]) -> str:
    """The result as a Markdown table."""
    rows = [f"| {o.model}, N = {o.batch} | parameters | passes | seconds | peak memory |",
            "| --- | --- | --- | --- | --- |"]
    for part, r in measured.items():
        rows.append(f"| {PARTS[part]} | {r['parameters'] / 1e6:.0f} M | {r['passes']} | "
                    f"{r['seconds']:.2f} | {r['peak_mib'] / 1024:.1f} GiB |")
    threads = next(iter(measured.values()))["threads"]
    return "\n".join(rows) + (
        f"\n\nCPU, {threads} thread(s), torch {torch.__version__}, float32, random weights, "
        f"fastest of {o.repeats} calls; peak memory of a process that does this part alone, "
        "building the networks included.")


def run(o: FullSize) -> None:
    """Measure one part, or all and print the table; or print the plans."""
    if o.plans:
        return print_table(o.of)
    if o.part not in (None, *PARTS):
        raise DD2Error(f"part={o.part} is unknown: use one of {', '.join(PARTS)}.")
    if o.batch < 1 or o.repeats < 1:
        raise DD2Error(f"batch={o.batch} and repeats={o.repeats} must be at least 1.")
    load_config([f"preset={o.model}"])
    print(json.dumps(measure(o)) if o.part else table(o, {p: fresh(o, p) for p in PARTS}))


if __name__ == "__main__":
    main(run, kind=FullSize)
