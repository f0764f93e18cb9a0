"""Time the samplers: `python -m train.benchmark preset=fashion-llamagen thread_counts=[1,2]`.

Teacher (guided, KV cache), one step, decoding and, where the tests are at hand, the plain sampler
that the teacher must not be slower than. Samplers take turns, so that a drift of the machine hits
all alike; warm-up is excluded, the device synchronised, the median kept. An AR step of a small
model is often fastest on one CPU thread and the one-step pass on all: `thread_counts` gives each
sampler the count that suits it best. Prints a table and writes `runs/NAME/benchmark.json`.
"""

import dataclasses
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.noise import gaussians, uniforms
from dd2core.pipeline import Pipeline, check_count, load_pipeline
from dd2core.store.files import write_json
from dd2core.store.names import BENCHMARK
from train.engine import loop
from train.engine.paths import run_folder
from train.engine.record.provenance import digests, provenance
from train.evaluate import model_folder
from train.measure.flops import count_flops
from train.measure.public.beside import Sampler, agreement, public_sampler
from train.measure.timing import Samplers, device_name, fastest_threads, row
from train.measure.yardstick import yardstick
from train.settings.cli import main
from train.settings.schema import Benchmark, Config


def samplers(
    pipe: Pipeline, o: Benchmark, n: int, seed: int, theirs: Sampler | None = None
) -> Samplers:
    """What is timed for n images, by name; all return tokens but `decode`.

    The teacher runs as the model is sampled; the yardstick, which has no filters, stands beside it
    where the model has none either, and so does the public sampler `theirs`, if there is one.
    """
    teacher, engine = pipe.teacher, pipe.engine
    sampling = pipe.sampling.override(cfg=o.cfg)
    u = uniforms(n, teacher.num_tokens, seed).to(pipe.device)
    settings = {**sampling.keywords(), "noise": u}
    labels = (torch.arange(n) % teacher.num_classes).to(pipe.device)
    eps = gaussians(n, teacher.num_tokens, teacher.code_dim, seed).to(pipe.device)

    def one_step() -> Tensor:
        return engine.tokens(eps, labels)

    def whole() -> Tensor:
        *_, (tokens, _) = engine.steps(labels, **settings)
        return tokens

    def refine(start: int) -> Tensor:
        tokens = prefix = one_step()  # a start at the last step leaves them as they are
        for tokens, _ in engine.steps(labels, **settings, prefix=prefix, start=start):
            pass
        return tokens

    tokens = whole()
    timed: Samplers = {"teacher": whole}
    comparable = teacher.is_guided(sampling.cfg) and not sampling.filters  # as the yardstick is
    plain = yardstick(teacher) if comparable else None
    if plain is not None:
        timed["yardstick"] = lambda: plain.sample(labels, sampling.cfg, u)
    if theirs is not None:
        timed["public"] = lambda: theirs(labels, sampling)
    timed["one_step"] = one_step
    for start in o.starts:
        timed[f"refine_{start}"] = lambda start=start: refine(start)
    timed["decode"] = lambda: engine.images(tokens)
    return {name: _context(f, pipe.device, o.bf16) for name, f in timed.items()}


def _context(f: Callable[[], Tensor], device: torch.device, bf16: bool) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return f()

    return call


def benchmark(pipe: Pipeline, o: Benchmark, seed: int = 0) -> dict:
    """All numbers.

    Raises:
        DD2Error: no generator, or a setting out of its range.
    """
    steps = pipe.teacher.num_steps
    if pipe.generator is None:
        raise DD2Error(f"{pipe.name} has no generator: run the stages gts and csd first.")
    if o.repeats < 1 or not o.batches:
        raise DD2Error(f"repeats={o.repeats} must be at least 1, batches={o.batches} not empty.")
    if any(count < 1 for count in o.thread_counts):
        raise DD2Error(f"thread_counts={o.thread_counts} must be numbers from 1.")
    if any(not 0 <= start <= steps for start in o.starts):
        raise DD2Error(f"starts={o.starts} must lie in 0…{steps}, the teacher's steps.")
    if o.bf16 and pipe.engine.name != "torch":
        raise DD2Error("bf16 is torch's: leave benchmark.bf16 out, or set DD2_ENGINE=torch.")
    if o.public and o.bf16:
        raise DD2Error("The public samplers are timed in float32: leave benchmark.bf16 out.")
    theirs = public_sampler(o.public, pipe.teacher) if o.public else None
    rows = []
    for n in tqdm([check_count(b) for b in o.batches], desc="benchmark", leave=False):
        timed = samplers(pipe, o, n, seed, theirs)
        rows.append(row(n, *fastest_threads(timed, o.repeats, pipe.device, o.thread_counts)))
    passes = {"teacher": steps, "one_step": 1}
    return {
        "preset": pipe.name,
        "device": device_name(pipe.device),
        "engine": pipe.engine.name,
        "torch": torch.__version__,
        "dtype": "bfloat16 autocast" if o.bf16 else "float32",
        "teacher_settings": pipe.sampling.override(cfg=o.cfg).keywords(),
        "repeats": o.repeats,
        **({} if theirs is None else {"public_greedy_agreement": agreement(
            theirs, pipe.teacher, pipe.sampling.override(cfg=o.cfg),
            torch.arange(min(4, pipe.teacher.num_classes), device=pipe.device))}),
        "passes": {**passes, **{f"refine_{s}": 1 + steps - s for s in o.starts}},
        "flops_per_image": count_flops(samplers(Pipeline(pipe.model), o, 1, seed)),
        "rows": rows,
        "command": "python -m train.benchmark " + shlex.join(sys.argv[1:]),
        "provenance": dataclasses.asdict(provenance(
            pipe.device, seed, digests(pipe.model.folder) if pipe.model.folder else None)),
    }


def table(result: dict) -> str:
    """The result as lines of text."""
    names = list(result["rows"][0]["ms"])
    head = ["batch", *(f"{n.replace('_', ' ')} ms /threads" for n in names), "ratio",
            "with decoding",
            "teacher / yardstick"]
    lines = [head]
    for r in result["rows"]:
        against = r["teacher_over_yardstick"]
        lines.append([str(r["batch"]), *(f"{r['ms'][n]:.1f} /{r['threads'][n]}" for n in names),
                      f"{r['ratio']:.1f}", f"{r['ratio_with_decoding']:.1f}",
                      "-" if against is None else f"{against:.2f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    flops = ", ".join(f"{k.replace('_', ' ')} {v / 1e6:.0f}"
                      for k, v in result["flops_per_image"].items())
    passes = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in result["passes"].items())
    same = result.get("public_greedy_agreement")
    public = [] if same is None else [
        f"public: the sampler of the checkout; taking the likeliest code, {100 * same:.2f}% of its "
        "tokens are the teacher's"]
    return "\n".join([
        *text, "", *public, f"passes: {passes}", f"MFLOP per image: {flops}",
        f"{result['device']}, torch {result['torch']}, {result['dtype']}, engine "
        f"{result['engine']}, median of {result['repeats']} rounds in turns, settings "
        f"{result['teacher_settings']}",
    ])


def run(cfg: Config) -> None:
    """Benchmark a model folder; write `benchmark.json` into the run folder."""
    o, device = cfg.benchmark, loop.setup(cfg)
    folder = Path(o.model) if o.model else model_folder(cfg)
    result = benchmark(load_pipeline(str(folder), str(device)), o, cfg.seed)
    print(table(result))
    if not cfg.dry_run:
        write_json(run_folder(cfg) / BENCHMARK, result)


if __name__ == "__main__":
    main(run, "benchmark")
