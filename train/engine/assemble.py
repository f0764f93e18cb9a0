"""Putting the parts of an experiment together from its settings and its run folder."""

import re
from pathlib import Path

import torch
from torch import nn

from dd2core.errors import DD2Error
from dd2core.families import find_family
from dd2core.families.llamagen.vector_input import with_mlp_input
from dd2core.score_model import ConditionalScoreModel, Discriminator, keep_blocks
from dd2core.store import folder
from dd2core.store.files import load_strict, read_tensors
from dd2core.teacher import Teacher
from train.data.tokens import class_names
from train.engine import base
from train.settings.schema import Config, CSDStage


def new_tokenizer(cfg: Config) -> nn.Module:
    """An untrained tokenizer of the settings' family and sizes."""
    family = find_family(cfg.family)
    return family.tokenizer(family.tokenizer_sizes(cfg.tokenizer, cfg.image_size, cfg.channels))


def load_tokenizer(cfg: Config, device: torch.device) -> nn.Module:
    """The trained tokenizer of this experiment, frozen.

    Raises:
        DD2Error: it has not been trained, or its sizes differ from the settings.
    """
    if cfg.base:
        return folder.load_tokenizer(base.folder(cfg)).to(device)
    model = new_tokenizer(cfg)
    _load(cfg, model, base.tokenizer_file(cfg))
    return model.requires_grad_(False).eval().to(device)


def _load(cfg: Config, model: torch.nn.Module, path: Path, blocks: int | None = None) -> None:
    """The weights in `path`; of a backbone's blocks only the first, if `blocks` says how many."""
    if cfg.dry_run and not path.exists():
        print(f"dry run: {path.name} is not there yet, random weights stand in for it")
        return
    found = read_tensors(path, sealed=True)
    if blocks is not None:
        number = re.compile(r"backbone\.blocks\.(\d+)\.")
        found = {k: a for k, a in found.items()
                 if not (of := number.match(k)) or int(of[1]) < blocks}
    load_strict(model, found, str(path))


def new_transformer(cfg: Config, tokenizer: nn.Module, num_classes: int) -> nn.Module:
    """An untrained transformer of the settings' sizes."""
    s, family = cfg.teacher, find_family(cfg.family)
    if s.width % s.heads or (s.width // s.heads) % 4:
        raise DD2Error(
            f"teacher.width={s.width} over teacher.heads={s.heads} must give heads of a multiple "
            "of 4 numbers."
        )
    sizes = family.transformer_sizes(s, tokenizer.cfg, num_classes)
    return family.transformer(sizes, tokenizer)


def load_teacher(cfg: Config, device: torch.device, adapted: bool = True) -> Teacher:
    """The trained teacher with its tokenizer, frozen: as the stage adapt leaves it, if the settings
    have that stage; with `adapted` false, as it was before.

    Raises:
        DD2Error: a stage before this one has not been run, or its sizes differ.
    """
    if adapted and cfg.adapt.steps:
        return _load_adapted(cfg, device)
    if cfg.base:
        return folder.load_teacher(base.folder(cfg), device)
    tokenizer = load_tokenizer(cfg, torch.device("cpu"))
    transformer = new_transformer(cfg, tokenizer, len(class_names(cfg)))
    _load(cfg, transformer, base.source_teacher_file(cfg))
    return find_family(cfg.family).teacher(tokenizer, transformer).to(device)


def _load_adapted(cfg: Config, device: torch.device) -> Teacher:
    path = base.teacher_file(cfg)
    if path.exists():
        return folder.load_teacher(path.parent, device)
    if not cfg.dry_run:
        raise DD2Error(f"{path} is not there: run train.adapt first.")
    print("dry run: the adapted teacher is not there yet, random weights stand in for its input")
    found, o = load_teacher(cfg, device, adapted=False), cfg.teacher
    transformer = with_mlp_input(found.transformer, o.input_hidden, o.input_layers)
    return find_family(cfg.family).teacher(found.tokenizer, transformer).to(device)


def new_score_model(cfg: Config, teacher: Teacher, bf16: bool) -> ConditionalScoreModel:
    """Backbone from the teacher and a fresh head, on the teacher's device."""
    h = cfg.head
    model = ConditionalScoreModel(
        teacher.backbone(), teacher.code_dim, h.width, h.depth, h.t_init, bf16, h.prediction
    )
    return model.to(teacher.device)


def new_generator(cfg: Config, teacher: Teacher, bf16: bool) -> ConditionalScoreModel:
    """`new_score_model` with as many blocks as the generator is to have.

    Raises:
        DD2Error: `head.generator_depth` is more than the teacher has.
    """
    model = new_score_model(cfg, teacher, bf16)
    keep_blocks(model.backbone, cfg.head.generator_depth, "head.generator_depth")
    return model


def new_discriminator(cfg: Config, teacher: Teacher, opts: CSDStage) -> Discriminator:
    """Blocks of the teacher's backbone and a fresh head, on the teacher's device.

    Raises:
        DD2Error: `adversarial_depth` is more than the teacher has.
    """
    h = cfg.head
    model = Discriminator(teacher.backbone(), teacher.code_dim, h.width, h.depth, opts.bf16,
                          opts.adversarial_depth)
    return model.to(teacher.device)


def load_score_model(
    cfg: Config, teacher: Teacher, path: Path, bf16: bool
) -> ConditionalScoreModel:
    """`new_score_model` with the weights in `path`."""
    model = new_score_model(cfg, teacher, bf16)
    _load(cfg, model, path)
    return model


def load_generator(
    cfg: Config, teacher: Teacher, path: Path, bf16: bool
) -> ConditionalScoreModel:
    """`new_generator` with the weights in `path`: a generator's, or a deeper score network's first
    blocks."""
    model = new_generator(cfg, teacher, bf16)
    _load(cfg, model, path, len(model.backbone.blocks))
    return model
