"""One batch of any sampler: images, tokens and what they cost."""

import torch
from torch import Tensor

from dd2core.baselines import dd1_two_steps, euler_sample, parallel_sample
from dd2core.errors import DD2Error
from dd2core.noise import stream_seed, uniforms
from dd2core.pipeline import Pipeline
from dd2core.sampling import Sampling
from dd2core.tools.images import to_float, to_uint8
from train.settings.schema import Config, Evaluate

SKIPPED = 2  # steps that `skip_last` leaves out, as the paper does
Batch = tuple[Tensor, Tensor, dict]  # images, tokens, cost: as `sample_batch` returns them


def sampling_of(pipe: Pipeline, o: Evaluate) -> Sampling:
    """The model's own sampling with what the section `evaluate` sets in its place."""
    return pipe.sampling.override(cfg=o.cfg, temperature=o.temperature, top_k=o.top_k,
                                  top_p=o.top_p)


def batch_seed(seed: int, i: int) -> int:
    """The seed of batch i of an evaluation."""
    return stream_seed(seed, "evaluate", i)


def sample_batch(pipe: Pipeline, cfg: Config, labels: Tensor, seed: int) -> Batch:
    """One batch of the sampler teacher, one_step, refine, parallel, skip_last, euler or
    dd1_two_steps.

    Args:
        pipe (Pipeline): the networks.
        cfg (Config): its section `evaluate` names the sampler and its settings.
        labels (Tensor): int64 (B,).
        seed (int): image i depends on (seed, i, its label) alone.

    Returns:
        Tensor: images, uint8 (B, channels, H, W).
        Tensor: tokens (B, L) on the CPU.
        dict: passes; for teacher, one_step and refine also seconds and decode_seconds.

    Raises:
        DD2Error: a setting out of its range, or a model without a generator.
    """
    o, t = cfg.evaluate, pipe.teacher
    sampling = sampling_of(pipe, o)
    if o.sampler == "parallel":
        u = uniforms(len(labels), t.num_tokens, seed)
        tokens = parallel_sample(t, labels.to(t.device), u, sampling).cpu()
        return to_uint8(decode(t, tokens)), tokens, {"passes": 1}
    if o.sampler == "euler":
        return _euler(pipe, o, labels, seed)
    if o.sampler == "dd1_two_steps":
        return _dd1_two_steps(pipe, cfg, labels, seed)
    if o.sampler == "skip_last":
        return _skip_last(pipe, labels, sampling, seed)
    if o.sampler == "teacher":
        s = pipe.sample_teacher(labels, seed, **sampling.keywords())
    elif o.sampler == "refine":
        s = pipe.refine(labels, seed, o.start, **sampling.keywords())
    else:
        s = pipe.sample_one_step(labels, seed)
    cost = {"seconds": s.seconds, "decode_seconds": s.decode_seconds, "passes": s.passes}
    return torch.from_numpy(s.images).permute(0, 3, 1, 2), s.tokens.cpu(), cost


def _euler(pipe: Pipeline, o: Evaluate, labels: Tensor, seed: int) -> Batch:
    """AR diffusion by the network of GTS in `weights=` (paper Tab. 7), else by the model's ψ."""
    network = pipe.generator if o.weights else pipe.guidance
    if network is None:
        raise DD2Error("sampler=euler samples a score network, and this model has none: give "
                       "weights=RUN/gts/generator.safetensors.")
    tokens = euler_sample(pipe.teacher, network, labels.to(pipe.device),
                          pipe.latents(len(labels), seed), o.euler_steps).cpu()
    return to_uint8(decode(pipe.teacher, tokens)), tokens, {"passes": pipe.teacher.num_steps}


def _dd1_two_steps(pipe: Pipeline, cfg: Config, labels: Tensor, seed: int) -> Batch:
    """DD1 in two passes, by the network of `weights=`, divided where it was trained to be."""
    tokens = dd1_two_steps(pipe.teacher, pipe.generator, labels.to(pipe.device),
                           pipe.latents(len(labels), seed), cfg.dd1.second_start).cpu()
    return to_uint8(decode(pipe.teacher, tokens)), tokens, {"passes": 2}


@torch.no_grad()
def _skip_last(pipe: Pipeline, labels: Tensor, sampling: Sampling, seed: int) -> Batch:
    """The teacher stopped two steps before its end; the tokens are those of what is to be seen."""
    t = pipe.teacher
    done = t.num_steps - SKIPPED
    if done < 1:
        raise DD2Error(f"sampler=skip_last leaves {SKIPPED} steps out, and this teacher has "
                       f"{t.num_steps}: use sampler=teacher.")
    u = uniforms(len(labels), t.num_tokens, seed)
    walk = t.steps(labels.to(t.device), **sampling.keywords(), noise=u)
    for _ in range(done):
        tokens, _ = next(walk)
    images = to_uint8(t.preview(tokens, done - 1).cpu())
    return images, t.encode(to_float(images).to(t.device)).cpu(), {"passes": done}


def reconstruct(teacher, tokens: Tensor) -> Batch:
    """What the tokenizer makes of its own tokens (B, L): the floor."""
    return to_uint8(decode(teacher, tokens)), tokens.cpu(), {"passes": 0}


@torch.no_grad()
def decode(teacher, tokens: Tensor) -> Tensor:
    """Tokens (n, L) → images (n, channels, H, W) in [−1, 1] on the CPU, any n."""
    return torch.cat([teacher.decode(x.to(teacher.device)).cpu() for x in tokens.split(256)])


def add_cost(total: dict, cost: dict) -> None:
    """Add a batch's cost to `total`: seconds add up, passes are those of any batch."""
    for key, value in cost.items():
        total[key] = value if key == "passes" else total.get(key, 0.0) + value
