"""On a GPU: do the shipped models give the CPU's tokens, and how fast are both attention kernels?

    python -m tests.harness.gpu.kernels out=kernels.json

Prints and writes, for 64 images of each model, the share of equal tokens and of equal images by
one step, by the teacher and by `refine`; for two official shapes the microseconds of a call.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from dd2core import load_pipeline
from dd2core.families import attention
from dd2core.store.files import write_json

MODELS = ("fashion-llamagen", "fashion-var")
SHAPES = {"llamagen-l, 64 x 256, causal": (256, True), "var-d16, 64 x 680, mask": (680, False)}
KERNELS = {"sdpa": attention._sdpa, "xformers": attention._xformers}
CALLS = 20


def alike(name: str) -> dict[str, list[float]]:
    """Shares of equal tokens and of equal images between CPU and GPU."""
    labels, found = torch.arange(64) % 10, {}
    for device in ("cpu", "cuda"):
        pipe = load_pipeline(name, device=device)
        found[device] = [s.tokens.cpu() for s in (
            pipe.sample_one_step(labels, 0), pipe.sample_teacher(labels, 0),
            pipe.refine(labels, 0, 3))]
    same = [a == b for a, b in zip(found["cpu"], found["cuda"], strict=True)]
    return {"tokens": [s.float().mean().item() for s in same],
            "images": [s.all(1).float().mean().item() for s in same]}


def microseconds(call: Callable[[], object]) -> float:
    """Mean of `CALLS` calls after five, the device waited for."""
    for _ in range(5):
        call()
    torch.cuda.synchronize()
    since = time.perf_counter()
    for _ in range(CALLS):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - since) / CALLS * 1e6


def kernels(length: int, causal: bool, dtype: torch.dtype) -> dict[str, float | str]:
    """Each kernel's microseconds, 64 images of 16 heads of 64; the reason where it cannot run."""
    q, k, v = (torch.randn(64, length, 16, 64, device="cuda", dtype=dtype) for _ in range(3))
    hidden = ~torch.ones(length, length, dtype=torch.bool, device="cuda").tril()
    mask = None if causal else torch.zeros(1, 1, length, length, device="cuda", dtype=dtype
                                           ).masked_fill(hidden, float("-inf"))
    reason = attention._why_xformers_fails("cuda", dtype)
    return {name: reason if name == "xformers" and reason else microseconds(
        lambda kernel=kernel: kernel(q, k, v, mask, causal, None))
        for name, kernel in KERNELS.items()}


def main(out: Path) -> None:
    """Measure everything."""
    found = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(),
             "alike": {name: alike(name) for name in MODELS},
             "microseconds": {f"{what}, {dtype}": kernels(*shape, dtype) for what, shape in
                              SHAPES.items() for dtype in (torch.bfloat16, torch.float32)}}
    print(json.dumps(found, indent=1))
    write_json(out, found)


if __name__ == "__main__":
    main(Path(dict(word.split("=", 1) for word in sys.argv[1:]).get("out", "kernels.json")))
