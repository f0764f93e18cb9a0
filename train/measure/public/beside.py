"""LlamaGen's and VAR's own samplers with our teacher's weights, to be timed beside ours.

`train.benchmark public=FOLDER` names a checkout of their repository. Its modules are imported from
there and nowhere else; nothing of theirs is in this package.
"""

import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from dd2core.errors import DD2Error, some
from dd2core.families.llamagen.official import transformer_name as llamagen_name
from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.var.official import transformer_name as var_name
from dd2core.families.var.teacher import VARTeacher
from dd2core.sampling import Sampling
from dd2core.teacher import Teacher

MARKS = {"LlamaGen": Path("autoregressive", "models", "gpt.py"), "VAR": Path("models", "var.py")}
FAMILY = {LlamaGenTeacher: "LlamaGen", VARTeacher: "VAR"}

Sampler = Callable[[Tensor, Sampling], Tensor]  # labels (B,) → tokens (B, L)


def public_sampler(folder: str, teacher: Teacher) -> Sampler:
    """The sampler of a public checkout, with the weights of `teacher`.

    Raises:
        DD2Error: the folder is no such checkout, of the other family, or does not run here.
    """
    there = [name for name, mark in MARKS.items() if (Path(folder) / mark).is_file()]
    if not there:
        marks = " or ".join(f"{name} ({mark.as_posix()})" for name, mark in MARKS.items())
        raise DD2Error(f"public={folder} is no checkout of {marks}: name the folder that git clone "
                       "made.")
    wanted = FAMILY.get(type(teacher))
    if wanted not in there:
        raise DD2Error(f"public={folder} is a checkout of {there[0]}, the model is of another "
                       f"family: name one of {wanted or 'no public sampler'}.")
    build = _llamagen if isinstance(teacher, LlamaGenTeacher) else _var
    with _theirs(folder):
        return build(teacher)


@contextlib.contextmanager
def _theirs(folder: str) -> Iterator[None]:
    """Their modules can be imported, their words are not printed, their errors are a sentence."""
    before = list(sys.path)
    sys.path.insert(0, str(Path(folder).resolve()))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except DD2Error:
        raise
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise DD2Error(f"The public code in {folder} does not run here ({error}): install what its "
                       "README asks for, in versions that fit.".replace("\n", " ")) from error
    finally:
        sys.path[:] = before


@torch.no_grad()
def _fill(theirs: nn.Module, ours: dict[str, Tensor]) -> None:
    own = theirs.state_dict()
    wrong = sorted({n for n, _ in theirs.named_parameters()} ^ ours.keys())
    wrong += [k for k, a in ours.items() if k in own and own[k].numel() != a.numel()]
    if wrong:
        raise DD2Error(f"The public model is not of this teacher's sizes ({some(wrong)}): "
                       "benchmark a model of official sizes.")
    theirs.load_state_dict(own | {k: a.reshape(own[k].shape) for k, a in ours.items()})


def _llamagen(teacher: LlamaGenTeacher) -> Sampler:
    gpt = importlib.import_module("autoregressive.models.gpt")
    generate = importlib.import_module("autoregressive.models.generate").generate
    backbone, cfg = teacher.transformer.backbone, teacher.transformer.cfg
    model = gpt.Transformer(gpt.ModelArgs(
        dim=cfg.width, n_layer=cfg.depth, n_head=cfg.heads, vocab_size=cfg.num_codes,
        # theirs is 8/3 of the width times the first, rounded up to a multiple of the second
        ffn_dim_multiplier=cfg.hidden / int(8 * cfg.width / 3), multiple_of=cfg.hidden,
        block_size=cfg.grid**2, num_classes=cfg.num_classes, cls_token_num=1, model_type="c2i"))
    inputs = ("backbone.code_input.", "backbone.token_table.")
    ours = {llamagen_name(k): a for k, a in teacher.transformer.state_dict().items()
            if not k.startswith(inputs)}
    _fill(model, ours | {"tok_embeddings.weight": backbone.table()})
    model.to(teacher.device).eval()

    def sample(labels: Tensor, s: Sampling) -> Tensor:
        greedy = s.top_k == 1
        return generate(model, labels, cfg.grid**2, cfg_scale=s.cfg, temperature=s.temperature,
                        top_k=s.top_k, top_p=s.top_p, sample_logits=not greedy).long()

    return sample


def _var(teacher: VARTeacher) -> Sampler:
    var, vqvae = (importlib.import_module(f"models.{name}") for name in ("var", "vqvae"))
    cfg, tokenizer = teacher.transformer.cfg, teacher.tokenizer
    pyramid = tokenizer.pyramid
    vae = vqvae.VQVAE(  # of it the codes and φ are used alone: encoder and decoder may be thin
        vocab_size=cfg.num_codes, z_channels=cfg.code_dim, ch=32, test_mode=True,
        share_quant_resi=pyramid.convs, v_patch_nums=cfg.patch_nums)
    model = var.VAR(vae_local=vae, num_classes=cfg.num_classes, depth=cfg.depth,
                    embed_dim=cfg.width, num_heads=cfg.heads, mlp_ratio=cfg.mlp_ratio,
                    shared_aln=cfg.shared_aln, attn_l2_norm=cfg.attn_l2_norm,
                    patch_nums=cfg.patch_nums, flash_if_available=teacher.device.type == "cuda",
                    fused_if_available=teacher.device.type == "cuda")
    _fill(model, {var_name(k): a for k, a in teacher.transformer.state_dict().items()})
    weights, biases = (a.chunk(pyramid.convs) for a in (pyramid.weight, pyramid.bias))
    phi = {f"quant_resi.qresi_ls.{i}.{leaf}": a for leaf, parts in
           (("weight", weights), ("bias", biases)) for i, a in enumerate(parts)}
    _fill(vae.quantize, {"embedding.weight": tokenizer.codes, **phi})
    vae.fhat_to_img = lambda f: f  # tokens are timed, decoding is not
    seen: list[Tensor] = []
    vae.quantize.embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.to(teacher.device).eval(), vae.to(teacher.device).eval()

    def sample(labels: Tensor, s: Sampling) -> Tensor:
        if s.temperature != 1:
            raise DD2Error("The public VAR has no temperature: benchmark a model that samples at "
                           "temperature 1.")
        seen.clear()
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every scale
            model.autoregressive_infer_cfg(len(labels), labels, cfg=s.cfg, top_k=s.top_k,
                                           top_p=0.0 if s.top_p == 1 else s.top_p)
        return torch.cat(seen, 1)

    return sample


@torch.no_grad()
def agreement(theirs: Sampler, teacher: Teacher, sampling: Sampling, labels: Tensor) -> float:
    """Share of tokens (B, L) that both samplers give the labels (B,), each taking the likeliest."""
    greedy = sampling.override(top_k=1, top_p=1.0, temperature=1.0)
    ours = teacher.sample(labels, **greedy.keywords())
    return (theirs(labels, greedy) == ours).float().mean().item()
