"""What a step of a full-size preset costs, without its weights: `dry_run=true` of gts and csd.

Small presets run one real step (`train.engine.loop`). A teacher of more than 50 M parameters is
built from shapes alone (the meta device, then fake tensors, which have a size but no content), and
one step of the stage runs on them: every operation is counted, and so is every byte while it is
alive. Blocks are alike: two and three are counted, as many as there are follow. That takes seconds
and no memory on a laptop.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from dd2core.errors import DD2Error
from dd2core.families import find_family
from dd2core.families.llamagen.settings import with_vector_input
from dd2core.noise import Part
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.folder import describe
from dd2core.teacher import Teacher
from train.engine import base
from train.engine.assemble import new_discriminator, new_score_model, new_tokenizer
from train.engine.recompute import checkpoint_blocks
from train.measure.counting.alive import Alive, mark_blocks
from train.measure.counting.depth import Count, at_depth
from train.measure.counting.steps import STEPS, kinds_of_steps, trained
from train.measure.flops import attention_flops
from train.settings.schema import AdaptStage, Config

IMAGENET_CLASSES = 1000  # of the official models, for which costs are estimated
LARGE = 50e6  # parameters of a teacher whose step is estimated
GATHERED = 6  # blocks that FSDP holds whole at a time: the weights of one, those of the next and
# their buffer, a gradient, and two more on the way to their shards
SPEED = 60e12  # FLOP/s assumed of one GPU: a fifth of an A800's 312 TFLOP/s in bfloat16


@dataclasses.dataclass(frozen=True)
class Cost:
    """One step on one GPU: bytes and floating-point operations.

    Attributes:
        fixed: weights, averages and tables, bytes.
        gradients, optimizer: bytes.
        working: most bytes alive beyond these, while the step runs.
        steps: of the stage by kind, see `kinds_of_steps`.
    """

    fixed: int
    gradients: int
    optimizer: int
    working: int
    steps: tuple[tuple[int, str, int], ...]

    @property
    def flops(self) -> int:
        """Of a usual step."""
        return self.steps[0][2]

    @property
    def total(self) -> int:
        """Bytes on one GPU."""
        return self.fixed + self.gradients + self.optimizer + self.working


def build_teacher(cfg: Config, device: str = "meta", depth: int | None = None) -> Teacher:
    """The preset's teacher with random weights; on the meta device, shapes without content.

    Args:
        cfg (Config): the experiment.
        device (str): where.
        depth (int | None): blocks; None is the preset's number.
    """
    family = find_family(cfg.family)
    try:
        d = describe(base.folder(cfg)) if cfg.base else None
    except DD2Error:
        d = None  # not converted yet: the preset knows its sizes
    with torch.device(device):
        tokenizer = family.tokenizer(d.tokenizer) if d else new_tokenizer(cfg)
        sizes = d.transformer if d else family.transformer_sizes(
            cfg.teacher, tokenizer.cfg, IMAGENET_CLASSES)
        if cfg.adapt.steps:
            sizes = with_vector_input(sizes, cfg.teacher.input_hidden, cfg.teacher.input_layers)
        if depth is not None:
            sizes = dataclasses.replace(sizes, depth=depth)
        made = family.teacher(tokenizer, family.transformer(sizes, tokenizer))
    return made if device == "meta" else made.to(device)  # constants are made on the CPU


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def fill_gradients(networks: list) -> None:
    """Gradients as a step before would have left them."""
    for module in networks:
        for p in module.parameters():
            p.grad = torch.empty_like(p)


@contextlib.contextmanager
def _counting() -> Iterator[tuple[FlopCounterMode, Alive]]:
    """Fake tensors, counted in operations and bytes."""
    alive = Alive()
    flops = FlopCounterMode(display=False, custom_mapping=attention_flops())
    with FakeTensorMode(allow_non_fake_inputs=True), flops, alive:
        yield flops, alive


def _networks(cfg: Config, stage: str, depth: int | None = None) -> tuple[Teacher, list]:
    """The teacher and what the stage trains, on the meta device: all as deep as the teacher, so a
    shallower discriminator costs less than is said."""
    teacher, opts = build_teacher(cfg, depth=depth), getattr(cfg, stage)
    with torch.device("meta"):
        networks: list[nn.Module] = [
            copy.deepcopy(teacher.transformer).requires_grad_(True)
            if isinstance(opts, AdaptStage) else new_score_model(cfg, teacher, opts.bf16)
            for _ in range(STEPS[stage][1])]
        if trained(cfg, stage) > len(networks):
            whole = dataclasses.replace(opts, adversarial_depth=None)
            networks.append(new_discriminator(cfg, teacher, whole))
        return teacher, networks


def _count(cfg: Config, stage: str, batch: int, depth: int) -> Count:
    """One step of networks of so many blocks; see `estimate`."""
    opts = getattr(cfg, stage)
    teacher, networks = _networks(cfg, stage, depth)
    with torch.device("meta"):
        step = STEPS[stage][0](opts, teacher, networks)
    checkpoint_blocks(opts, *networks)
    parts = Part(0, cfg.processes).split(opts.accumulate)
    counted: dict[str, int] = {}

    def done(work: str) -> None:
        found = flops.get_total_flops() * len(parts) // len(parts[:2])
        counted[work] = found - sum(counted.values())

    with _counting() as (flops, alive):
        for module in (teacher, *networks):
            module.to_empty(device="cpu")  # in name only
        teacher.requires_grad_(False)
        weights = alive.now
        fill_gradients(networks)
        if depth > 1:
            mark_blocks((teacher.transformer, *networks), alive.mark)
        step(batch * parts[0].count, parts[:2], done)
        alive.mark()
    return Count(weights, tuple(alive.peaks), counted)


def estimate(cfg: Config, stage: str, batch: int) -> tuple[Cost, Teacher, ConditionalScoreModel]:
    """The cost of one step on one GPU, in passes of `batch` images; teacher and network, without
    content.

    At most two passes are run: the others are like the second, and leave nothing but samples.
    """
    opts, passes = getattr(cfg, stage), getattr(cfg, stage).accumulate
    teacher, networks = _networks(cfg, stage)
    found = at_depth(len(networks[0].backbone.blocks), partial(_count, cfg, stage, batch))
    together, one = sum(count(m) for m in networks), count(networks[0])
    others = max(0, passes - 2) * batch * teacher.num_tokens * (4 * teacher.code_dim + 8)
    working = max(0, found.peak - found.weights - 4 * together)
    working += others if len(networks) > 1 else 0
    if cfg.processes > 1 and not cfg.shard:
        working = max(working, 4 * one)  # all gradients in one piece, to be averaged
    steps = tuple(kinds_of_steps(opts, found.work))
    return (Cost(found.weights + 4 * one, 4 * together, 8 * together, working, steps), teacher,
            networks[0])


def sharing(cfg: Config) -> int:
    """Among how many processes sharded networks are divided: all, or those of a node.

    Raises:
        DD2Error: the processes do not make whole nodes.
    """
    if not cfg.shard_in_node or cfg.processes <= cfg.node_size:
        return cfg.processes
    if cfg.processes % cfg.node_size:
        raise DD2Error(f"shard_in_node=true needs as many processes on every node: processes="
                       f"{cfg.processes} do not divide into nodes of node_size={cfg.node_size}.")
    return cfg.node_size


def sharded(
    cost: Cost, teacher: Teacher, model: ConditionalScoreModel, copies: int, processes: int,
    accumulate: int = 1,
) -> Cost:
    """`cost` with `shard=true`: transformer, networks and their average, gradients and optimiser
    are divided among the processes; what is gathered for a moment counts as `working`, and so do
    whole gradients, which several passes add up before they are divided.

    Args:
        cost (Cost): with everything whole.
        teacher (Teacher), model (ConditionalScoreModel): as `estimate` returns them.
        copies (int): networks like `model` that are trained.
        processes (int): that share them.
        accumulate (int): passes of a step.
    """
    divided = 4 * (count(teacher.transformer) + (copies + 1) * count(model))
    blocks = model.backbone.blocks  # the rest of a network, less its head, is one more unit
    top = getattr(model, "head", None) or model.output
    unit = 4 * max(count(blocks[0]), count(top), count(teacher.transformer) - count(blocks))
    summed = 4 * count(model) if accumulate > 1 else 0
    return Cost(cost.fixed - divided + divided // processes, cost.gradients // processes,
                cost.optimizer // processes, cost.working + GATHERED * unit + summed, cost.steps)


def report(cfg: Config, stage: str) -> list[str]:
    """Lines that say what a stage of a full-size preset costs."""
    opts = getattr(cfg, stage)
    if opts.batch % (cfg.processes * opts.accumulate):
        raise DD2Error(f"{stage}.batch={opts.batch} does not divide among processes="
                       f"{cfg.processes} × {stage}.accumulate={opts.accumulate} passes: change "
                       "one.")
    batch = opts.batch // (cfg.processes * opts.accumulate)
    cost, teacher, model = estimate(cfg, stage, batch)
    how = f", {opts.accumulate} passes a step" if opts.accumulate > 1 else ""
    how += ", blocks checkpointed" if opts.checkpoint_blocks else ""
    if cfg.shard and cfg.processes > 1:
        where = f" in nodes of {sharing(cfg)}" if sharing(cfg) < cfg.processes else ""
        how += f", sharded{where} ({cost.fixed / 2**30:.1f} before that, at the start)"
        cost = sharded(cost, teacher, model, trained(cfg, stage), sharing(cfg), opts.accumulate)
    gib = {k: getattr(cost, k) / 2**30
           for k in ("fixed", "gradients", "optimizer", "working", "total")}
    names = (model.new_parameters() if isinstance(model, ConditionalScoreModel)
             else {n for n, _ in model.named_parameters() if ".code_input." in n})
    new = sum(p.numel() for n, p in model.named_parameters() if n in names)
    step = cost.flops * cfg.processes
    also = "".join(f" ({each * cfg.processes / 1e12:.1f} in {n} {words})"
                   for n, words, each in cost.steps[1:] if n)
    hours = sum(n * each for n, _, each in cost.steps) * cfg.processes / SPEED / 3600
    return [
        f"{stage}: teacher {count(teacher.transformer) / 1e6:.1f} M parameters, its tokenizer "
        f"{count(teacher.tokenizer) / 1e6:.1f} M, {trained(cfg, stage)} network(s) of "
        f"{count(model) / 1e6:.1f} M ({new / 1e6:.1f} M of them new)",
        f"{stage}: {gib['total']:.1f} GiB per GPU at {batch} images on each of {cfg.processes}"
        f"{how}: weights and average {gib['fixed']:.1f}, gradients {gib['gradients']:.1f}, "
        f"AdamW {gib['optimizer']:.1f}, activations and temporaries {gib['working']:.1f}",
        f"{stage}: {step / 1e12:.1f} TFLOP per step of {opts.batch} images{also}, {opts.steps} "
        f"steps: {hours:.0f} GPU-hours, if a GPU does {SPEED / 1e12:.0f} TFLOP/s",
        f"{stage}: an estimate: one step on tensors without content, every operation and every "
        "living byte counted; the allocator's slack, kernels' workspaces and the optimiser's "
        "temporaries are not",
        f"{stage}: dry run, nothing written",
    ]


def estimated(cfg: Config, stage: str) -> bool:
    """Whether this is the dry run of a full-size preset; then its cost has been printed."""
    if not cfg.dry_run or count(build_teacher(cfg).transformer) < LARGE:
        return False
    print("\n".join(report(cfg, stage)))
    return True
