"""Images by a model of the official size: `python -m train.fullsize model=llamagen-b`.

The weights are random: this shows that the networks of a preset fit and run, and what time and
memory they take: the teacher with guidance and KV cache, the one-step generator, the decoder. On a
CPU each part runs in a fresh process, so that its peak memory is its own; on a GPU the peak is
counted anew. On one, `training=gts,csd` runs real training steps beside their plan.
"""

import dataclasses
import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.noise import gaussians, uniforms
from dd2core.store.files import write_json
from dd2core.teacher import Teacher
from dd2core.tools.device import pick_device
from train.engine.assemble import new_generator
from train.measure.cost import build_teacher, count
from train.measure.timing import device_name, settled, typical
from train.results.plans import print_table
from train.results.steps import memory, print_steps
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
    batches: list[int] = field(default_factory=list)  # in place of batch: a table for each of these
    device: str = "cpu"  # cpu, cuda, mps or auto
    bf16: bool = False  # bfloat16 autocast; training: as the preset's stages say
    repeats: int = 2  # CPU: calls, of which the fastest is told, the first warms up
    # on a GPU: calls after one that warms up; their median is told
    threads: int | None = None  # CPU threads; None leaves torch's choice
    seed: int = 0  # of weights and latents; training: the preset's
    plans: bool = False  # instead: what training costs, beside the paper (`train.results.plans`)
    of: list[str] = field(default_factory=list)  # plans: of these presets; none is all
    training: str | None = None  # instead: real steps of these stages (gts, csd or gts,csd)
    passes: int = 2  # training: passes of a step; 0 is the preset's number
    out: str | None = None  # JSON file for what was measured; None writes none


Call = tuple[Callable[[], Tensor], dict[str, int]]


def _labels(teacher: Teacher, o: FullSize) -> Tensor:
    return (torch.arange(o.batch) % teacher.num_classes).to(o.device)


def _teacher_call(cfg: Config, o: FullSize) -> Call:
    teacher, s = build_teacher(cfg, o.device), cfg.sampling
    labels = _labels(teacher, o)
    u = uniforms(o.batch, teacher.num_tokens, o.seed).to(o.device)
    return (lambda: teacher.sample(labels, **s.keywords(), noise=u)), {
        "parameters": count(teacher.transformer), "passes": teacher.num_steps}


def _one_step_call(cfg: Config, o: FullSize) -> Call:
    teacher = build_teacher(cfg, o.device)
    model = new_generator(cfg, teacher, o.bf16).requires_grad_(False).eval()
    teacher.transformer = None  # the generator has its own copy
    labels = _labels(teacher, o)
    eps = gaussians(o.batch, teacher.num_tokens, teacher.code_dim, o.seed).to(o.device)
    return (lambda: teacher.quantise(model.generate(eps, labels))), {
        "parameters": count(model), "passes": 1}


def _decode_call(cfg: Config, o: FullSize) -> Call:
    teacher: Teacher = build_teacher(cfg, o.device)
    teacher.transformer = None
    tokens = torch.randint(teacher.num_codes, (o.batch, teacher.num_tokens)).to(o.device)
    return (lambda: teacher.decode(tokens)), {
        "parameters": count(teacher.tokenizer), "passes": 1}


CALLS = {"teacher": _teacher_call, "one_step": _one_step_call, "decode": _decode_call}


def measure(o: FullSize) -> dict[str, Any]:
    """Seconds, MiB and sizes of one part, in this process."""
    torch.manual_seed(o.seed)
    if o.threads:
        torch.set_num_threads(o.threads)
    device, out = torch.device(o.device), []
    call, sizes = CALLS[o.part](load_config([f"preset={o.model}"]), o)
    if device.type == "cuda":
        gc.collect()  # what building left
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)

    def once() -> None:
        out[:] = [call()]

    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=o.bf16):
        seconds = settled(once, o.repeats, device)
    if not out[0].isfinite().all():
        raise DD2Error(f"{o.part} of {o.model} gave numbers that are not finite.")
    return {**sizes, "seconds": typical(seconds, device), "peak_mib": _peak(device),
            "shape": list(out[0].shape), "threads": torch.get_num_threads()}


def _peak(device: torch.device) -> float:
    """MiB: of tensors on a GPU, else of the whole process."""
    allocated, _ = memory(device)
    if allocated is not None:
        return allocated * 1024
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def fresh(o: FullSize, part: str) -> dict[str, Any]:
    """`measure` of one part in a process of its own; on a GPU, which counts anew, in this one."""
    if torch.device(o.device).type == "cuda":
        return measure(dataclasses.replace(o, part=part))
    own = dataclasses.replace(o, batches=[], out=None)
    words = [f"{k}={v}" for k, v in vars(own).items() if k != "part" and v is not None]
    done = subprocess.run([sys.executable, "-m", "train.fullsize", *words, f"part={part}"],
                          capture_output=True, text=True)
    if done.returncode:
        raise DD2Error(f"{part} of {o.model} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def table(o: FullSize, measured: dict[str, dict]) -> str:
    """The result of one batch as a Markdown table."""
    rows = [f"| {o.model}, N = {o.batch} | parameters | passes | seconds | peak memory |",
            "| --- | --- | --- | --- | --- |"]
    for part, r in measured.items():
        rows.append(f"| {PARTS[part]} | {r['parameters'] / 1e6:.0f} M | {r['passes']} | "
                    f"{r['seconds']:.{2 if r['seconds'] >= 1 else 4}f} | "
                    f"{r['peak_mib'] / 1024:.1f} GiB |")
    return "\n".join(rows)


def footer(o: FullSize, threads: int) -> str:
    """On what it was measured, and how."""
    device = torch.device(o.device)
    dtype = "bfloat16 autocast" if o.bf16 else "float32"
    how = f"torch {torch.__version__}, {dtype}, random weights"
    if device.type == "cpu":
        return (f"CPU, {threads} thread(s), {how}, fastest of {o.repeats} calls; peak memory of a "
                "process that does this part alone, building the networks included.")
    return (f"{device_name(device)}, {how}, median of {o.repeats} calls after one that warms up; "
            "peak memory of tensors during the calls, weights included.")


def run(o: FullSize) -> None:
    """Measure one part, or all and print a table for each batch; or print the plans, or real steps
    beside them."""
    if o.plans:
        return print_table(o.of)
    if o.part not in (None, *PARTS):
        raise DD2Error(f"part={o.part} is unknown: use one of {', '.join(PARTS)}.")
    if min(o.batch, o.repeats, *o.batches) < 1 or o.passes < 0:
        raise DD2Error(f"batch={o.batch}, batches={o.batches} and repeats={o.repeats} must be at "
                       f"least 1, passes={o.passes} at least 0.")
    load_config([f"preset={o.model}"])
    device = pick_device(o.device)
    o = dataclasses.replace(o, device=str(device))
    if o.training:
        if o.threads:
            torch.set_num_threads(o.threads)
        found = print_steps(o.model, o.training.split(","), device, o.passes, o.repeats)
        print(f"\n{device_name(device)}, torch {torch.__version__}, random weights and tokens, "
              "one process.")
    elif o.part:
        found = [measure(o)]
        print(json.dumps(found[0]))
    else:
        found = tables(o)
    if o.out:
        write_json(o.out, {"model": o.model, "device": device_name(device), "bf16": o.bf16,
                           "torch": torch.__version__, "repeats": o.repeats, "rows": found})


def tables(o: FullSize) -> list[dict]:
    """Measure all parts of each batch, and print; the numbers, part by part."""
    found = []
    for batch in o.batches or [o.batch]:
        one = dataclasses.replace(o, batch=batch)
        measured = {part: fresh(one, part) for part in PARTS}
        found += [{"part": part, "batch": batch, **r} for part, r in measured.items()]
        print(table(one, measured) + "\n", flush=True)
    print(footer(o, found[0]["threads"]))
    return found


if __name__ == "__main__":
    main(run, kind=FullSize)
