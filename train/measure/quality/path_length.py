"""Perceptual path length of a one-step generator, as StyleGAN defines it (method §9).

Of a spherical way between two latents, the image at t and the image at t + ε, ε = 0.01, label
held: d²/ε², where d is the Euclidean distance in the features of a classifier, not LPIPS, whose
network has seen no such pictures. StyleGAN leaves out what lies below the first and above the last
percentile; both means are kept, since tokens jump: most pairs are the same image, and few are far
apart.
"""

import torch
from torch import Tensor
from tqdm import tqdm

from dd2core.noise import gaussians, slerp, stream_seed
from dd2core.pipeline import Pipeline
from dd2core.results.schema import PathLength
from dd2core.store.names import CLASSIFIER, JUDGE
from train.measure.quality.extractors import Extractors, features

EPSILON = 1e-2
OUTSIDE = 0.01  # share that is left out at either end


def filtered_mean(squares: Tensor) -> float:
    """Mean of the numbers (N,) from the first to the last percentile; StyleGAN's rounding."""
    low = torch.quantile(squares, OUTSIDE, interpolation="lower")
    high = torch.quantile(squares, 1 - OUTSIDE, interpolation="higher")
    return squares[(squares >= low) & (squares <= high)].mean().item()


@torch.no_grad()
def path_length(pipe: Pipeline, extractors: Extractors, labels: Tensor, seed: int, batch: int
                ) -> PathLength:
    """Perceptual path length of the generator in `pipe`.

    Args:
        pipe (Pipeline): with a generator.
        extractors (Extractors): in whose features distances are taken.
        labels (Tensor): of the pairs, (N,) int64.
        seed (int): of latents and places.
        batch (int): pairs at a time.
    """
    squares: dict[str, list[Tensor]] = {name: [] for name in extractors.by_name()}
    changed = 0
    for i, y in enumerate(tqdm(labels.split(batch), desc="path length", mininterval=2.0)):
        images, moved = _pair(pipe, y, stream_seed(seed, "path length", i))
        changed += moved
        for name, model in extractors.by_name().items():
            a, b = (features(model, x, lambda x: x).double() for x in images)
            squares[name].append((a - b).square().sum(-1) / EPSILON**2)
    found = {name: torch.cat(parts) for name, parts in squares.items()}
    means = {name: (filtered_mean(x), x.mean().item()) for name, x in found.items()}
    judge = means.get(JUDGE, (None, None))
    return PathLength(n=len(labels), epsilon=EPSILON, filtered=means[CLASSIFIER][0],
                      all=means[CLASSIFIER][1], judge_filtered=judge[0], judge_all=judge[1],
                      changed=changed / len(labels))


def _pair(pipe: Pipeline, labels: Tensor, seed: int) -> tuple[list[Tensor], int]:
    """Images (n, channels, H, W) in [−1, 1] at both places, and how many differ in a token."""
    t, n = pipe.teacher, len(labels)
    ends = [gaussians(n, t.num_tokens, t.code_dim, stream_seed(seed, end)) for end in "ab"]
    place = torch.rand(n, generator=torch.Generator().manual_seed(stream_seed(seed, "place")))
    tokens = [t.quantise(pipe.generator.generate(slerp(*ends, at).to(t.device),
                                                 labels.to(t.device)))
              for at in (place, place + EPSILON)]
    moved = (tokens[0] != tokens[1]).flatten(1).any(1).sum().item()
    return [t.decode(x) for x in tokens], moved
