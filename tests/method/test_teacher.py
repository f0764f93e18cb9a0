"""The LlamaGen teacher behind the `Teacher` interface: causality, cache, sampling, guidance."""

import math
from collections import Counter

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.families.attention import attention
from dd2core.families.codebook import scaled_codebook
from dd2core.families.llamagen import transformer as llamagen
from dd2core.families.llamagen.settings import TransformerConfig
from dd2core.families.llamagen.transformer import LlamaGenTransformer, rotary_2d, rotate
from dd2core.noise import uniforms
from dd2core.sampling import filter_logits
from tests.support import tiny

B, L, V, C, K = 3, 16, 32, 4, 16
LABELS = torch.tensor([0, 1, 2])
SETTINGS = {
    "plain": {},
    "guided": {"cfg": 2.5},
    "filtered": {"cfg": 1.5, "temperature": 0.7, "top_k": 9, "top_p": 0.8},
}
settings = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())


@pytest.fixture(scope="module", params=["codes", "table"])
def teacher(request):
    return tiny.teacher(request.param)


def random_tokens():
    return torch.randint(V, (B, L))


# Interface -----------------------------------------------------------------------------------


def test_it_is_frozen_and_in_eval_mode(teacher):
    assert not teacher.training and not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_its_sizes_are_those_of_its_parts(teacher):
    assert (teacher.num_tokens, teacher.num_codes, teacher.code_dim) == (L, V, C)
    assert teacher.num_steps == K and teacher.num_classes == 3
    assert teacher.spans == [(i, i + 1) for i in range(L)]
    assert teacher.logits(random_tokens(), LABELS).shape == (B, L, V)


def test_the_codebook_is_the_stored_codes_times_one_scalar_of_rms_1(teacher):
    assert teacher.codebook.square().mean().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(teacher.codebook, teacher.scale * teacher.tokenizer.codes)
    assert teacher.scale == pytest.approx(math.sqrt(C))  # unit vectors


def test_a_codebook_of_any_length_is_scaled_to_rms_1():
    codes = 5 * torch.randn(20, 3)
    scaled, scale = scaled_codebook(codes)
    assert scaled.square().mean().item() == pytest.approx(1)
    torch.testing.assert_close(scaled / scale, codes)


def test_quantising_a_code_gives_its_token(teacher):
    tokens = random_tokens()
    assert torch.equal(teacher.quantise(teacher.codebook[tokens]), tokens)


@torch.no_grad()
def test_decode_upto_paints_decided_tokens_only(teacher):
    tokens, other = random_tokens(), random_tokens()
    other[:, :7] = tokens[:, :7]
    assert torch.equal(teacher.decode(tokens, L), teacher.decode(tokens))
    assert torch.equal(teacher.decode(tokens, 7), teacher.decode(other, 7))
    assert not torch.equal(teacher.decode(tokens, 7), teacher.decode(tokens, 8))
    assert teacher.decode(tokens, 7).abs().max() <= 1
    vq = teacher.tokenizer
    z = torch.cat([vq.codes[tokens[:, :7]], vq.codes.mean(0).expand(B, L - 7, C)], 1)
    assert torch.equal(teacher.decode(tokens, 7), vq.decode_vectors(z).clamp(-1, 1))


# Causality and cache -------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("i", [0, 1, 7, L - 1])
def test_logits_see_all_earlier_tokens_and_no_later_ones(teacher, i):
    tokens = random_tokens()
    changed = tokens.clone()
    changed[:, i] = (changed[:, i] + 1) % V
    moved = (teacher.logits(changed, LABELS) - teacher.logits(tokens, LABELS)).abs().amax((0, 2))
    assert (moved[: i + 1] == 0).all()
    assert (moved[i + 1 :] > 1e-6).all()


@torch.no_grad()
def test_logits_see_the_label_at_every_position(teacher):
    tokens = random_tokens()
    moved = teacher.logits(tokens, LABELS) - teacher.logits(tokens, LABELS.flip(0))
    assert (moved.abs().amax(-1)[[0, 2]] > 1e-6).all()


@settings
@pytest.mark.parametrize("start", [0, 1, 2, 7, K - 1])
def test_the_cache_gives_the_probabilities_of_the_full_pass(teacher, settings, start):
    prefix = random_tokens()
    walk = [(tokens.clone(), log_p) for tokens, log_p in
            teacher.steps(LABELS, **settings, prefix=prefix, start=start)]
    tokens, log_p = walk[-1][0], torch.cat([log_p for _, log_p in walk], 1)
    assert torch.equal(tokens[:, :start], prefix[:, :start])
    expected = teacher.log_probs(tokens, LABELS, **settings)[:, start:]
    torch.testing.assert_close(log_p.exp(), expected.exp(), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("steps", [(0, 5, 15), (3, 4, 9), (2, 15)])
def test_the_cache_takes_in_all_that_it_has_not_seen(teacher, steps):
    tokens = random_tokens()
    expected, cache = teacher.logits(tokens, LABELS), teacher.begin(LABELS)
    for step in steps:
        torch.testing.assert_close(teacher.advance(cache, tokens, step)[:, 0], expected[:, step],
                                   atol=1e-5, rtol=1e-4)


def test_steps_decide_one_span_at_a_time(teacher):
    seen = [tokens.clone() for tokens, _ in teacher.steps(LABELS, prefix=random_tokens())]
    assert len(seen) == K
    for step, (before, after) in enumerate(zip(seen, seen[1:], strict=False), 1):
        same = before == after
        assert same[:, :step].all() and same[:, step + 1 :].all()


def test_starting_at_K_leaves_nothing_to_do(teacher):
    assert list(teacher.steps(LABELS, prefix=random_tokens(), start=K)) == []


def test_the_prefix_given_to_steps_is_not_written_to(teacher):
    prefix = random_tokens()
    before = prefix.clone()
    list(teacher.steps(LABELS, prefix=prefix, start=3))
    assert torch.equal(prefix, before)


def test_under_autocast_queries_keys_and_values_share_one_dtype(teacher, monkeypatch):
    """xformers refuses a bfloat16 query with the float32 keys of a cache."""
    seen = set()

    def spy(q, k, v, *args, **options):
        seen.add((q.dtype, k.dtype, v.dtype))
        return attention(q, k, v, *args, **options)

    monkeypatch.setattr(llamagen, "attention", spy)
    with torch.autocast("cpu", torch.bfloat16):
        teacher.sample(LABELS, cfg=2.0)
        teacher.log_probs(random_tokens(), LABELS)
    assert all(len(set(dtypes)) == 1 for dtypes in seen)


# Sampling ------------------------------------------------------------------------------------


def test_sampling_with_top_k_1_is_greedy_whatever_the_noise(teacher):
    tokens = teacher.sample(LABELS, cfg=2.0, top_k=1, noise=torch.rand(B, L))
    assert torch.equal(tokens, teacher.log_probs(tokens, LABELS, cfg=2.0).argmax(-1))
    assert torch.equal(tokens, teacher.sample(LABELS, cfg=2.0, top_k=1, noise=torch.rand(B, L)))


@settings
def test_each_token_inverts_the_distribution_given_those_before(teacher, settings):
    noise = torch.rand(B, L)
    tokens = teacher.sample(LABELS, **settings, noise=noise)
    p = teacher.log_probs(tokens, LABELS, **settings).exp()
    upper = p.cumsum(-1).gather(-1, tokens[..., None])[..., 0]
    lower = upper - p.gather(-1, tokens[..., None])[..., 0]
    assert (lower - 1e-4 <= noise).all() and (noise <= upper + 1e-4).all()


@settings
def test_a_sample_depends_on_seed_position_and_label_not_on_the_batch(teacher, settings):
    many = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    whole = teacher.sample(many, **settings, noise=uniforms(7, L, 5))
    for n in (1, 3):
        part = teacher.sample(many[:n], **settings, noise=uniforms(n, L, 5))
        assert torch.equal(part, whole[:n])
    other = many.clone()
    other[2:] = 1
    assert torch.equal(teacher.sample(other, **settings, noise=uniforms(7, L, 5))[:2], whole[:2])


def test_without_noise_samples_differ(teacher):
    assert not torch.equal(teacher.sample(LABELS), teacher.sample(LABELS))


# Guidance ------------------------------------------------------------------------------------


def test_guidance_is_off_at_1_and_at_none(teacher):
    tokens = random_tokens()
    plain = teacher.logits(tokens, LABELS).log_softmax(-1)
    for cfg in (None, 1, 1.0):
        assert not teacher.is_guided(cfg)
        torch.testing.assert_close(teacher.log_probs(tokens, LABELS, cfg), plain)


@pytest.mark.parametrize("cfg", [0.0, 0.5, 1.5, 4.0])
def test_guidance_is_u_plus_s_times_c_minus_u(teacher, cfg):
    tokens = random_tokens()
    c = teacher.logits(tokens, LABELS)
    u = teacher.logits(tokens, torch.full_like(LABELS, teacher.num_classes))
    for options in ({}, {"temperature": 0.8, "top_k": 5, "top_p": 0.9}):
        expected = filter_logits(u + cfg * (c - u), **options)
        got = teacher.log_probs(tokens, LABELS, cfg, **options)
        torch.testing.assert_close(got.exp(), expected.exp(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cfg", [float("nan"), float("inf"), -float("inf")])
def test_a_guidance_that_is_no_number_is_one_sentence(teacher, cfg):
    with pytest.raises(DD2Error, match="cfg"):
        teacher.log_probs(random_tokens(), LABELS, cfg)


@torch.no_grad()
def test_blank_logits_are_exact_for_the_first_token_and_ignore_the_batch(teacher):
    blank = teacher.blank_logits(LABELS)
    assert blank.shape == (B, L, V)
    model = teacher.transformer.backbone
    mean = model.embed(torch.arange(V)[None]).mean(1, keepdim=True)  # of every code
    x = torch.cat([model.class_embedding(LABELS)[:, None], mean.expand(B, L - 1, -1)], 1)
    torch.testing.assert_close(blank, teacher.transformer.output(model.run_blocks(x)))
    exact = teacher.logits(random_tokens(), LABELS)[:, 0]
    torch.testing.assert_close(blank[:, 0], exact, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(blank[1:2], teacher.blank_logits(LABELS[1:2]), atol=1e-5, rtol=1e-4)


# Rotary positions and official sizes ---------------------------------------------------------


def test_the_class_tokens_query_and_key_vanish():
    cos, sin = rotary_2d(4, 8)
    turned = rotate(torch.randn(2, 17, 3, 8), torch.complex(cos, sin)[:, None])
    assert (turned[:, 0] == 0).all() and (turned[:, 1:].abs().amax(-1) > 0).all()


def test_rotary_products_depend_on_the_offset_in_row_and_column_alone():
    grid, d = 5, 8
    cos, sin = (f[1:] for f in rotary_2d(grid, d))  # (25, d/2)
    turn = torch.complex(cos, sin)
    q, k = (rotate(torch.randn(d).expand(1, grid**2, d), turn)[0] for _ in range(2))
    products = (q @ k.T).view(grid, grid, grid, grid)  # rows, columns of q, then of k
    by_row, by_column = (products[1:, :, 1:], products[:-1, :, :-1]), (
        products[:, 1:, :, 1:], products[:, :-1, :, :-1])
    for here, there in (by_row, by_column):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(products[0, 0, 0, 1], products[0, 0, 1, 0])  # 2-D, not 1-D


def test_rotating_keeps_lengths():
    cos, sin = (f[1:] for f in rotary_2d(4, 16))
    x = torch.randn(2, 16, 3, 16)
    turned = rotate(x, torch.complex(cos, sin)[:, None])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


# Of the official GPT-B checkpoint of LlamaGen (c2i_B_256.pt).
GPT_B = {(1001, 768): 1, (16384, 768): 2, (2304, 768): 12, (768, 768): 12, (2048, 768): 24,
         (768, 2048): 12, (768,): 25}


def test_the_default_config_has_the_tensors_of_the_official_gpt_b():
    with torch.device("meta"):
        state = LlamaGenTransformer(TransformerConfig(), torch.empty(16384, 8)).state_dict()
    assert Counter(tuple(a.shape) for a in state.values()) == GPT_B
    assert len(state) == 88
    assert sum(math.prod(a.shape) for a in state.values()) == 110_888_448


def test_an_unknown_token_input_is_one_sentence():
    with pytest.raises(DD2Error, match="token_input=pixels"):
        tiny.teacher("pixels")
