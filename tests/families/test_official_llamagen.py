"""LlamaGen computes what the public code computes, and takes any checkpoint of its kind apart."""

import argparse
import functools

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.families import recognise
from dd2core.families.llamagen.official import SIZES
from dd2core.official import load_llamagen, load_var, read_state, unwrap
from tests.support import plain_llamagen as plain
from tests.support.parity import arrays, description, meta_state, seeded_state


@functools.cache
def fixture():
    """Teacher of the recorded configuration and the recorded arrays."""
    d = description("llamagen_tiny")
    return load_llamagen(seeded_state(d["gpt_keys"]), seeded_state(d["vq_keys"]),
                         num_heads=d["config"]["n_head"], grid=4), arrays("llamagen_tiny")


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 0.1
    assert (ours - theirs).abs().max() < 1e-4


# What the public code computes ----------------------------------------------------------------

def test_sizes_are_inferred():
    teacher, _ = fixture()
    d, sizes = description("llamagen_tiny"), teacher.transformer.cfg
    c, vq = d["config"], d["vq"]
    assert (sizes.depth, sizes.width, sizes.heads) == (c["n_layer"], c["dim"], c["n_head"])
    assert (teacher.num_codes, teacher.code_dim) == (c["vocab_size"], vq["dim"])
    assert (teacher.num_classes, teacher.num_tokens) == (c["num_classes"], c["block_size"])
    assert (teacher.tokenizer.cfg.width, teacher.tokenizer.cfg.z_channels) == (vq["ch"], vq["z"])


@torch.no_grad()
def test_logits():
    teacher, a = fixture()
    close(teacher.logits(a["tokens"], a["label"]), a["logits"])


@torch.no_grad()
def test_images_and_tokens_of_images():
    teacher, a = fixture()
    close(teacher.decode(a["tokens"]), a["image"].clamp(-1, 1))
    assert torch.equal(teacher.encode(a["encode_image"]), a["encoded"])
    close(teacher.tokenizer.codes, a["codebook"])


@torch.no_grad()
def test_greedy_guided_sampling():
    teacher, a = fixture()
    found = teacher.sample(a["label"], cfg=2.0, top_k=1)
    assert torch.equal(found, a["ar_tokens"].long())


# Official sizes, without weights --------------------------------------------------------------

def official_keys(size):
    """Names and shapes of GPT-B, L, XL and XXL: SwiGLU's 8D/3 is rounded up to 256s."""
    depth, _, width = SIZES[size]
    return plain.gpt_keys(depth, width, 16384, 1000, -(-8 * width // 3 // 256) * 256)


@pytest.mark.parametrize(("size", "grid", "millions"), [
    ("B", 16, 111), ("L", 16, 343), ("XL", 24, 775), ("XXL", 24, 1411)])
def test_official_key_lists_load_strictly(size, grid, millions):
    known = description("llamagen_official_keys")
    if size == "B":
        assert official_keys("B") == known["GPT-B"]
    teacher = load_llamagen(meta_state(official_keys(size)), meta_state(known["VQ-16"]),
                            grid=grid)
    sizes = teacher.transformer.cfg
    assert (sizes.depth, sizes.heads, sizes.width) == SIZES[size]
    assert teacher.num_tokens == grid * grid
    assert teacher.tokenizer.cfg.image_size == 16 * grid
    count = sum(p.numel() for p in teacher.transformer.parameters())
    assert abs(count / 1e6 / millions - 1) < 0.01


# Configurations that no fixture has -----------------------------------------------------------

CONFIGS = {
    "one layer": ({"depth": 1, "width": 40, "hidden": 24}, 2, 3),
    "many heads": ({"depth": 2, "width": 48, "hidden": 130, "classes": 7}, 12, 2),
    "one head": ({"depth": 4, "width": 8, "v": 300, "c": 16}, 1, 4),
    "three levels": ({"mult": (1, 1, 3), "blocks": 2, "z": 9, "ch": 64, "c": 3}, 4, 2),
    "one level, grey": ({"mult": (2,), "blocks": 3, "channels": 1}, 3, 5),
}


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_is_the_same_function_at_any_size(name):
    sizes, heads, grid = CONFIGS[name]
    gpt, vq = plain.states(**sizes)
    teacher = load_llamagen(gpt, vq, num_heads=heads, grid=grid)
    labels = torch.tensor([0, 2])
    tokens = torch.randint(teacher.num_codes, (2, grid * grid))
    close(teacher.logits(tokens, labels), plain.logits(gpt, tokens[:, :-1], labels, heads, grid))
    images = plain.decode(vq, tokens, grid)
    close(teacher.decode(tokens), images.clamp(-1, 1))
    noisy = images + 0.3 * torch.randn_like(images)
    assert torch.equal(teacher.encode(noisy), plain.encode(vq, noisy))
    assert torch.equal(teacher.sample(labels, cfg=1.7, top_k=1),
                       plain.greedy(gpt, labels, 1.7, heads, grid))


def test_half_precision_weights_become_float32():
    gpt, vq = plain.states()
    halves = {k: a.bfloat16() for k, a in gpt.items()}
    teacher = load_llamagen(halves, vq, num_heads=4, grid=2)
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(teacher.transformer.output.weight, halves["output.weight"].float())


# Files ----------------------------------------------------------------------------------------

class Foreign:
    """Something that a pickle must not bring."""


WRAPPINGS = {
    "bare": lambda s: s,
    "model": lambda s: {"model": s, "optimizer": {"lr": 1.0}, "steps": 3},
    "module": lambda s: {"module": s},
    "ema": lambda s: {"ema": s, "args": argparse.Namespace(lr=1.0, name="x")},
    "state_dict": lambda s: {"state_dict": s},
    "twice": lambda s: {"state_dict": {"model": s}},
    "parallel": lambda s: {"model": {f"module._orig_mod.{k}": a for k, a in s.items()}},
    "trainer": lambda s: {"trainer": {"var_wo_ddp": s, "vae_local": {}}, "epoch": 1},
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_wrapped_and_bare_files_are_the_same(wrap, tmp_path):
    gpt, vq = plain.states()
    torch.save(wrap(gpt), tmp_path / "a.pt")
    found = unwrap(read_state(tmp_path / "a.pt"))
    assert found.keys() == gpt.keys()
    assert all(torch.equal(found[k], a) for k, a in gpt.items())
    load_llamagen(read_state(tmp_path / "a.pt"), wrap(vq), num_heads=4, grid=2)


def test_the_model_comes_before_its_average():
    one, two = {"a": torch.zeros(1)}, {"a": torch.ones(1)}
    assert unwrap({"ema": two, "model": one})["a"] == 0


def test_a_pickle_with_anything_else_is_refused(tmp_path):
    for name, value in {"a": {"model": {}, "x": Foreign()}, "b": torch.nn.Linear(1, 1)}.items():
        torch.save(value, tmp_path / f"{name}.pt")
        with pytest.raises(DD2Error, match=f"{name}.pt cannot be read safely"):
            read_state(tmp_path / f"{name}.pt")


def test_reading_a_namespace_allows_it_nowhere_else(tmp_path):
    torch.save({"args": argparse.Namespace()}, tmp_path / "a.pt")
    read_state(tmp_path / "a.pt")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_files_that_are_no_checkpoint_are_one_sentence(tmp_path):
    with pytest.raises(DD2Error, match="a.pt is missing"):
        read_state(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"hello")
    with pytest.raises(DD2Error, match="b.pt cannot be read safely"):
        read_state(tmp_path / "b.pt")
    torch.save([1, 2], tmp_path / "c.pt")
    with pytest.raises(DD2Error, match="c.pt holds a list"):
        read_state(tmp_path / "c.pt")


@pytest.mark.parametrize(("state", "says"), [
    ({}, "holds no state dict"),
    ({"trainer": {"vae_local": {}}}, "holds no state dict"),
    ({"model": {}}, "holds no state dict"),
    ({"weight": torch.zeros(1), "epoch": 3}, "epoch is not a tensor"),
])
def test_dictionaries_that_are_no_state_dict_are_one_sentence(state, says):
    with pytest.raises(DD2Error, match=says):
        unwrap(state)


def test_every_kind_of_checkpoint_is_recognised():
    llamagen, var = description("llamagen_official_keys"), description("var_official_keys")
    found = [recognise({"model": meta_state(keys)}) for keys in
             (llamagen["GPT-B"], llamagen["VQ-16"], var["var_d16"], var["vae_ch160v4096z32"])]
    assert found == [("llamagen", "transformer"), ("llamagen", "tokenizer"),
                     ("var", "transformer"), ("var", "tokenizer")]
    with pytest.raises(DD2Error, match="x.pt is no LlamaGen or VAR checkpoint"):
        recognise({"a": torch.zeros(1)}, "x.pt")


# Errors ---------------------------------------------------------------------------------------

def without(state, name):
    return {k: a for k, a in state.items() if k != name}


@pytest.mark.parametrize("part", [0, 1])
def test_every_key_is_needed_and_no_other_is_taken(part):
    both = plain.states(depth=1)
    for name in both[part]:
        if name == "quantize.codebook_used":
            continue
        states = list(both)
        states[part] = without(both[part], name)
        with pytest.raises(DD2Error) as error:
            load_llamagen(*states, num_heads=4, grid=2)
        # Sizes are read off some: then other keys seem too many.
        counted = ("layers.0.", "encoder.conv_blocks.")
        assert name in str(error.value) or name.startswith(counted)
    states = list(both)
    states[part] = {**both[part], "surplus.weight": torch.zeros(1), "second": torch.zeros(1)}
    with pytest.raises(DD2Error, match="second, surplus.weight"):
        load_llamagen(*states, num_heads=4, grid=2)


def test_all_that_is_wrong_is_in_one_sentence():
    gpt, vq = plain.states(depth=1)
    gpt = {"last.weight" if k == "norm.weight" else k: a for k, a in gpt.items()}
    gpt["output.weight"] = gpt["output.weight"][1:]
    with pytest.raises(DD2Error) as error:
        load_llamagen(gpt, vq, num_heads=4, grid=2)
    assert str(error.value) == (
        "the LlamaGen checkpoint is incomplete or of another model: it has no norm.weight; "
        "output.weight has shape (39, 48), expected (40, 48); it has keys that this model does "
        "not: last.weight.")


@pytest.mark.parametrize("part", [0, 1])
def test_every_shape_is_checked(part):
    both = plain.states(depth=1)
    for name, a in both[part].items():
        if name == "quantize.codebook_used":
            continue
        states = list(both)
        states[part] = {**both[part], name: a[:-1]}
        try:
            teacher = load_llamagen(*states, num_heads=4, grid=2)
        except DD2Error:
            continue
        # The one size that nothing contradicts: a class less.
        assert name == "cls_embedding.embedding_table.weight"
        assert teacher.num_classes == 2
    with pytest.raises(DD2Error, match=r"output.weight has shape \(39, 48\), expected \(40, 48\)"):
        load_llamagen({**both[0], "output.weight": both[0]["output.weight"][1:]}, both[1],
                      num_heads=4, grid=2)


def test_the_used_codes_may_be_missing():
    gpt, vq = plain.states()
    load_llamagen(gpt, without(vq, "quantize.codebook_used"), num_heads=4, grid=2)


@pytest.mark.parametrize("heads", [None, 0, 5, 24, 2.0])
def test_impossible_heads_are_one_sentence(heads):
    with pytest.raises(DD2Error, match=f"num_heads={heads} does not cut the width 48"):
        load_llamagen(*plain.states(), num_heads=heads, grid=2)


@pytest.mark.parametrize("grid", [0, -1, 2.5])
def test_an_impossible_grid_is_one_sentence(grid):
    with pytest.raises(DD2Error, match=f"grid={grid} must be a whole number"):
        load_llamagen(*plain.states(), num_heads=4, grid=grid)


def test_a_tokenizer_of_another_model_is_one_sentence():
    gpt, _ = plain.states(v=40)
    _, vq = plain.states(v=41)
    with pytest.raises(DD2Error, match="is for 40 codes, the tokenizer has 41"):
        load_llamagen(gpt, vq, num_heads=4, grid=2)


def test_checkpoints_in_the_wrong_place_are_one_sentence():
    gpt, vq = plain.states()
    d = description("var_tiny")
    var, vae = seeded_state(d["var_keys"]), seeded_state(d["vqvae_keys"])
    for call in (lambda: load_llamagen(vq, gpt, num_heads=4), lambda: load_llamagen(var, vae),
                 lambda: load_llamagen(var, vq, num_heads=4, grid=2),
                 lambda: load_var(gpt, vq, num_heads=4), lambda: load_var(vae, var)):
        with pytest.raises(DD2Error, match="has no .*not of this family"):
            call()


def test_text_conditional_models_are_refused():
    gpt, vq = plain.states()
    gpt = without(gpt, "cls_embedding.embedding_table.weight")
    gpt |= {"cls_embedding.cap_proj.fc1.weight": torch.zeros(48, 2048)}
    with pytest.raises(DD2Error, match="has no cls_embedding.embedding_table.weight"):
        load_llamagen(gpt, vq, num_heads=4, grid=2)
