"""What a training process must not import before it agrees with the others: it takes seconds."""

import subprocess
import sys

from train.settings.cli import ROOT

HEAVY = ("torchvision", "torch_fidelity", "torch._dynamo", "torch.distributed.tensor",
         "torch.distributed.checkpoint", "sympy", "scipy")


def test_a_stage_starts_without_what_only_measuring_and_sharding_need():
    words = f"import sys, train.csd, train.gts; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stdout + done.stderr
