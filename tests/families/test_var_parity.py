"""VAR computes what the public code computes, and takes any checkpoint of its kind apart."""

import functools
import math

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.families.var.official import PATCH_NUMS, load_tokenizer, load_var
from tests.support.parity import arrays, description, meta_state, seeded_state

NAMES = ("var_tiny", "var_tiny_shared")


@functools.cache
def fixture(name):
    """Teacher, recorded arrays and a function that joins the recorded tokens of all scales."""
    d, a = description(name), arrays(name)
    c = d["config"]
    teacher = load_var(seeded_state(d["var_keys"]), seeded_state(d["vqvae_keys"]),
                       num_heads=c["num_heads"], patch_nums=c["patch_nums"])

    def tokens(what):
        return torch.cat([a[f"{what}_{k}"] for k in range(len(c["patch_nums"]))], 1)

    return teacher, a, tokens


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_inferred(name):
    teacher, _, _ = fixture(name)
    c, sizes = description(name)["config"], teacher.transformer.cfg
    assert (sizes.depth, sizes.width, sizes.heads) == (c["depth"], c["embed_dim"], c["num_heads"])
    assert (sizes.shared_aln, sizes.attn_l2_norm) == (c["shared_aln"], c["attn_l2_norm"])
    assert (teacher.num_codes, teacher.code_dim) == (c["V"], c["Cvae"])
    assert teacher.num_classes == c["num_classes"]
    assert teacher.tokenizer.cfg.width == c["ch"]


@pytest.mark.parametrize("name", NAMES)
def test_residual_pyramid(name):
    teacher, a, tokens = fixture(name)
    vectors = teacher.tokenizer.codes[tokens("tokens")]
    close(teacher.tokenizer.pyramid.inputs(vectors), a["teacher_input"])
    f = teacher.tokenizer.pyramid.merge(vectors)  # (B, p_K², C)
    close(f.mT.reshape(a["f_hat"].shape), a["f_hat"])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_logits(name):
    teacher, a, tokens = fixture(name)
    close(teacher.logits(tokens("tokens"), a["label"]), a["logits"])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_images_and_tokens_of_images(name):
    teacher, a, tokens = fixture(name)
    close(teacher.decode(tokens("tokens")), a["image"])
    assert torch.equal(teacher.encode(a["encode_image"]), tokens("encoded"))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_greedy_guided_sampling(name):
    teacher, a, tokens = fixture(name)
    found = teacher.sample(a["label"], cfg=1.5, top_k=1)
    assert torch.equal(found, tokens("ar_tokens"))
    close((teacher.decode(found) + 1) / 2, a["ar_image"])


# Official sizes, without weights --------------------------------------------------------------

def official_keys(depth):
    """Names and shapes of VAR-d16, d20, …: depth = heads = N, width = 64·N."""
    keys = description("var_official_keys")["var_d16"]
    rest = {k: s for k, s in keys.items() if not k.startswith("blocks.")}
    block = {k: s for k, s in keys.items() if k.startswith("blocks.0.")}
    keys = rest | {k.replace("blocks.0.", f"blocks.{i}."): s
                   for i in range(depth) for k, s in block.items()}
    fixed = ("attn_bias_for_masking", "lvl_1L")
    return {k: s if k in fixed else [_derived(k, n, depth) for n in s] for k, s in keys.items()}


def _derived(name, n, depth):
    if name.endswith("scale_mul_1H11"):
        return depth if n == 16 else n
    wide = n % 1024 == 0 and not (name.startswith("head.") and n == 4096)  # 4096 codes
    return n // 1024 * 64 * depth if wide else n


@pytest.mark.parametrize(("depth", "millions"), [(16, 310), (20, 600), (24, 1030), (30, 2010)])
def test_official_key_lists_load_strictly(depth, millions):
    vae = description("var_official_keys")["vae_ch160v4096z32"]
    keys = official_keys(depth)
    if depth == 16:
        assert keys == description("var_official_keys")["var_d16"]
    teacher = load_var(meta_state(keys), meta_state(vae))
    sizes = teacher.transformer.cfg
    assert (sizes.depth, sizes.width, sizes.heads) == (depth, 64 * depth, depth)
    assert (teacher.num_tokens, teacher.num_steps, teacher.num_classes) == (680, 10, 1000)
    assert teacher.tokenizer.cfg.image_size == 256
    count = sum(p.numel() for p in teacher.transformer.parameters())
    assert math.isclose(count / 1e6, millions, rel_tol=0.02)


# Configurations that no fixture has -----------------------------------------------------------

def official_state(depth, width, heads, v, c, classes, patch_nums, shared, l2_norm, hidden):
    """A random state dict under the official names."""
    n = sum(p * p for p in patch_nums)
    keys = {"pos_start": [1, patch_nums[0] ** 2, width], "pos_1LC": [1, n, width],
            "lvl_1L": [1, n], "attn_bias_for_masking": [1, 1, n, n],
            "word_embed.weight": [width, c], "word_embed.bias": [width],
            "class_emb.weight": [classes + 1, width],
            "lvl_embed.weight": [len(patch_nums), width], "head.weight": [v, width],
            "head.bias": [v], "head_nm.ada_lin.1.weight": [2 * width, width],
            "head_nm.ada_lin.1.bias": [2 * width]}
    if shared:
        keys |= {"shared_ada_lin.1.weight": [6 * width, width],
                 "shared_ada_lin.1.bias": [6 * width]}
    for i in range(depth):
        block = {"attn.q_bias": [width], "attn.v_bias": [width], "attn.zero_k_bias": [width],
                 "attn.mat_qkv.weight": [3 * width, width], "attn.proj.weight": [width, width],
                 "attn.proj.bias": [width], "ffn.fc1.weight": [hidden, width],
                 "ffn.fc1.bias": [hidden], "ffn.fc2.weight": [width, hidden],
                 "ffn.fc2.bias": [width]}
        block |= {"ada_gss": [1, 1, 6, width]} if shared else {
            "ada_lin.1.weight": [6 * width, width], "ada_lin.1.bias": [6 * width]}
        block |= {"attn.scale_mul_1H11": [1, heads, 1, 1]} if l2_norm else {}
        keys |= {f"blocks.{i}.{k}": s for k, s in block.items()}
    return seeded_state(keys)


def vae_state(v, c):
    """The fixture's tokenizer with another codebook, three convolutions φ and all widths kept."""
    keys = dict(description("var_tiny")["vqvae_keys"])
    for k, s in list(keys.items()):
        if k.startswith("quantize.quant_resi.qresi_ls.3"):
            del keys[k]
        elif k.startswith(("quantize.quant_resi", "quant_conv", "post_quant_conv")):
            keys[k] = [c if n == 8 else n for n in s]
        elif k in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
            keys[k] = [c, *s[1:]]
        elif k == "decoder.conv_in.weight":
            keys[k] = [s[0], c, *s[2:]]
    keys["quantize.embedding.weight"] = [v, c]
    keys.pop("quantize.ema_vocab_hit_SV")
    return seeded_state(keys)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("l2_norm", [False, True])
@torch.no_grad()
def test_other_configurations(shared, l2_norm):
    patch_nums = (2, 3, 5)
    state = official_state(4, 40, 5, 24, 12, 3, patch_nums, shared, l2_norm, 72)
    teacher = load_var(state, vae_state(24, 12), num_heads=5, patch_nums=patch_nums)
    assert teacher.tokenizer.cfg.phi_convs == 3 and teacher.tokenizer.cfg.image_size == 80
    assert teacher.spans == [(0, 4), (4, 13), (13, 38)]
    labels = torch.tensor([0, 2])
    tokens = teacher.sample(labels, cfg=2.0, noise=torch.rand(2, 38))
    assert teacher.logits(tokens, labels).shape == (2, 38, 24)
    assert teacher.decode(tokens[:1]).shape == (1, 3, 80, 80)
    # What the checkpoint says of a block is what the block computes with.
    block = teacher.transformer.backbone.blocks[3]
    assert torch.equal(block.qkv.weight, state["blocks.3.attn.mat_qkv.weight"])
    assert torch.equal(block.weights().qkv_bias[:40], state["blocks.3.attn.q_bias"])
    assert block.weights().qkv_bias[40:80].count_nonzero() == 0


def test_wrapped_and_half_precision():
    d, c = description("var_tiny"), description("var_tiny")["config"]
    var = {k: v.half() for k, v in seeded_state(d["var_keys"]).items()}
    trainer = {"trainer": {"var_wo_ddp": var, "vae_local": seeded_state(d["vqvae_keys"])}}
    teacher = load_var(trainer, trainer, patch_nums=c["patch_nums"])
    plain, a, tokens = fixture("var_tiny")
    assert teacher.transformer.cfg == plain.transformer.cfg
    with torch.no_grad():
        ours = teacher.logits(tokens("tokens"), a["label"])
    assert (ours - a["logits"]).abs().max() < 0.05


# What cannot be loaded, and why ---------------------------------------------------------------

@pytest.mark.parametrize(("change", "words"), [
    (lambda var, vae: var.update({"blocks.0.attn.surprise": torch.zeros(1)}),
     "blocks.0.attn.surprise"),
    (lambda var, vae: var.pop("blocks.1.ffn.fc2.bias"), "no blocks.1.ffn.fc2.bias"),
    (lambda var, vae: var.update({"head.bias": torch.zeros(3)}), "head.bias has shape"),
    (lambda var, vae: vae.update({"decoder.extra": torch.zeros(1)}), "decoder.extra"),
    (lambda var, vae: vae.pop("quant_conv.bias"), "no quant_conv.bias"),
    (lambda var, vae: vae.update({"quantize.embedding.weight": torch.zeros(9, 8)}),
     "do not belong together"),
])
def test_every_key_counts(change, words):
    d = description("var_tiny")
    var, vae = seeded_state(d["var_keys"]), seeded_state(d["vqvae_keys"])
    change(var, vae)
    with pytest.raises(DD2Error, match=words):
        load_var(var, vae, patch_nums=d["config"]["patch_nums"])


@pytest.mark.parametrize(("settings", "words"), [
    ({"patch_nums": PATCH_NUMS}, "680 tokens at 10 scales, the VAR checkpoint has 30 at 4"),
    ({"patch_nums": [1, 2, 3, 4], "num_heads": 3}, "num_heads=3 does not divide the width 64"),
    ({"patch_nums": [1, 2, 3, 4], "num_heads": 4}, "scale_mul_1H11 has shape"),
    ({"patch_nums": [4, 3, 2, 1]}, "increasing"),
])
def test_wrong_settings(settings, words):
    d = description("var_tiny")
    with pytest.raises(DD2Error, match=words):
        load_var(seeded_state(d["var_keys"]), seeded_state(d["vqvae_keys"]), **settings)


def test_models_without_learned_scales_need_their_heads():
    d = description("var_tiny_shared")
    with pytest.raises(DD2Error, match="num_heads=None"):
        load_var(seeded_state(d["var_keys"]), seeded_state(d["vqvae_keys"]),
                 patch_nums=d["config"]["patch_nums"])


def test_a_tokenizer_of_another_family():
    with pytest.raises(DD2Error, match="no encoder.conv_in.weight"):
        load_tokenizer({"encoder.conv_blocks.0.weight": torch.zeros(1)})
