"""CPU time of both engines, in turns: `python -m tests.harness.engines fashion-llamagen`.

One image on one thread: one step with decoding, and the whole teacher. Process time, not the clock,
so that other work on the machine matters less; the engines take turns, the least and the median of
the rounds are printed. The graphs are written first where they are not at hand.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable

import torch

from dd2core.errors import DD2Error
from dd2core.graphs.engine import Engine, choose_engine
from dd2core.noise import uniforms
from dd2core.pipeline import load_pipeline

ROUNDS = 15


def cpu_times(name: str, rounds: int = ROUNDS) -> dict[str, dict[str, list[float]]]:
    """Seconds of CPU by sampler and engine, one entry per round.

    Args:
        name (str): a shipped preset, a model folder or a hub id, with a generator.
        rounds (int): of each, at least 1.
    """
    pipe = load_pipeline(name, "cpu")
    engines = [choose_engine(pipe.model, wanted) for wanted in ("torch", "onnx")]
    labels, eps = torch.zeros(1, dtype=torch.int64), pipe.latents(1, 0)
    noise = uniforms(1, pipe.teacher.num_tokens, 0)
    settings = dataclasses.asdict(pipe.sampling)

    def one_step(engine: Engine) -> None:
        engine.images(engine.tokens(eps, labels))

    def teacher(engine: Engine) -> None:
        *_, (tokens, _) = engine.steps(labels, **settings, noise=noise)
        engine.images(tokens)

    samplers = {"one step": one_step, "teacher": teacher}
    times: dict[str, dict[str, list[float]]] = {
        key: {engine.name: [] for engine in engines} for key in samplers}
    for i in range(-2, rounds):  # two rounds of warming up
        for key, run in samplers.items():
            for engine in engines:
                seconds = _cpu(run, engine)
                if i >= 0:
                    times[key][engine.name].append(seconds)
    return times


def _cpu(run: Callable[[Engine], None], engine: Engine) -> float:
    since = time.process_time()
    run(engine)
    return time.process_time() - since


def main(names: list[str]) -> None:
    """Print a line per model and sampler."""
    torch.set_num_threads(1)
    for name in names or ["fashion-llamagen", "fashion-var"]:
        for sampler, by_engine in cpu_times(name).items():
            ms = {engine: (1000 * min(t), 1000 * statistics.median(t))
                  for engine, t in by_engine.items()}
            shown = ", ".join(f"{engine} {low:.1f} (median {middle:.1f})"
                              for engine, (low, middle) in ms.items())
            print(f"{name}, {sampler}: ms of CPU, least of {ROUNDS}: {shown}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DD2Error as error:
        raise SystemExit(f"tests.harness.engines: {error}") from None
