"""What lies between two classes of a model at fixed noise, by its own classifier and index:

    python -m tests.harness.mix_classes fashion-llamagen

The generator gets (1 − w)·a + w·b in place of a class embedding, for every pair of classes and
twelve latents each. Prints, by w, the classifier's mean probabilities of a, of b and of neither
(and that of the worst pair), and the mean distance to the nearest training picture.
"""

import itertools
import sys

import torch
from torch import Tensor, nn

from dd2core import Pipeline, load_pipeline
from dd2core.novelty.classifier import find_classifier
from dd2core.novelty.index import load_index
from dd2core.tools.images import to_float

WEIGHTS = (0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
LATENTS = 12  # of each pair


class Fixed(nn.Module):
    """Gives one embedding whatever the labels."""

    def __init__(self, embedding: Tensor):
        super().__init__()
        self.embedding = embedding

    def forward(self, labels: Tensor) -> Tensor:
        """(B,) → (B, D)."""
        return self.embedding.expand(len(labels), -1)


@torch.no_grad()
def between(pipe: Pipeline, a: int, b: int, weight: float, seed: int) -> Tensor:
    """Images uint8 (LATENTS, H, W, C) at one place between two classes."""
    backbone = pipe.generator.backbone
    own, table = backbone.class_embedding, backbone.class_embedding.weight
    backbone.class_embedding = Fixed((1 - weight) * table[a] + weight * table[b])
    try:
        labels = torch.zeros(LATENTS, dtype=torch.int64)
        tokens = pipe.generator.generate(pipe.latents(LATENTS, seed), labels)
        return pipe.engine.images(pipe.teacher.quantise(tokens))
    finally:
        backbone.class_embedding = own


@torch.no_grad()
def main(name: str) -> None:
    """Measure and print."""
    pipe = load_pipeline(name, device="cpu")
    classifier, _ = find_classifier(pipe.model.folder)
    index = load_index(pipe.model.folder)
    pairs = list(itertools.combinations(range(len(pipe.class_names)), 2))
    for weight in WEIGHTS:
        rows = []
        for i, (a, b) in enumerate(pairs):
            images = between(pipe, a, b, weight, 1000 + i)
            p = classifier(to_float(images.permute(0, 3, 1, 2))).softmax(-1).mean(0)
            distance = float(index.find(images.numpy(), 1).distance[:, 0].mean())
            rows.append([float(p[a]), float(p[b]), float(1 - p[a] - p[b]), distance])
        mean = torch.tensor(rows).mean(0).tolist()
        print(f"w {weight:<5}  a {mean[0]:.2f}  b {mean[1]:.2f}  neither {mean[2]:.2f} (worst pair "
              f"{max(row[2] for row in rows):.2f})  distance {mean[3]:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "fashion-llamagen")
