"""The residual pyramid and the multi-scale tokenizer: maps, causality, losses, official sizes."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from dd2core.errors import DD2Error
from dd2core.families.var.pyramid import (
    FrozenPyramid,
    Pyramid,
    phi_index,
    resize_matrix,
    scale_spans,
)
from dd2core.families.var.settings import VARTokenizerConfig
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.tools.numerics import nearest_code
from tests.support import tiny_var
from tests.support.parity import description

V, C, L, SIDE = 32, 4, 21, 4
SPANS = [(0, 1), (1, 5), (5, 21)]


@pytest.fixture(params=[1, 3], ids=["grey", "rgb"])
def tokenizer(request):
    return tiny_var.tokenizer(request.param)


@pytest.fixture
def pyramid():
    return tiny_var.tokenizer().pyramid


def images(tokenizer, n=3):
    return torch.rand(n, tokenizer.cfg.in_channels, 16, 16) * 2 - 1


# The pyramid ----------------------------------------------------------------------------------

def test_scales_stand_one_after_the_other():
    assert scale_spans((1, 2, 4)) == SPANS
    official = scale_spans(VARTokenizerConfig().patch_nums)
    assert len(official) == 10 and official[-1] == (424, 680)


@pytest.mark.parametrize("mode", ["bicubic", "area"])
@pytest.mark.parametrize(("source", "target"), [(1, 4), (2, 7), (7, 3), (4, 4)])
def test_resizing_is_a_matrix(mode, source, target):
    x = torch.randn(2, 5, source, source)
    expected = F.interpolate(x, size=(target, target), mode=mode).flatten(2)
    got = (resize_matrix(source, target, mode) @ x.flatten(2).mT).mT
    torch.testing.assert_close(got, expected)


def test_neighbouring_scales_share_convolutions():
    # Scale 8 of 10 lies between two ticks but for rounding: the official models take the last.
    assert [phi_index(k, 10, 4) for k in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert [phi_index(k, 6, 1) for k in range(6)] == [0] * 6
    assert [phi_index(k, 3, 3) for k in range(3)] == [0, 1, 2]
    assert phi_index(0, 1, 4) == 0


def test_a_contribution_is_the_mean_of_a_map_and_its_convolution(pyramid):
    x = torch.randn(2, 4, C)
    up = F.interpolate(x.mT.reshape(2, C, 2, 2), size=(SIDE, SIDE), mode="bicubic")
    i = pyramid.phi[1]
    weight, bias = pyramid.weight[i * C : (i + 1) * C], pyramid.bias[i * C : (i + 1) * C]
    expected = (up + F.conv2d(up, weight, bias, padding=1)) / 2
    got = pyramid.contribution(x, 1, pyramid.kernels()).mT.reshape(expected.shape)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_the_ratio_is_the_convolutions_part(ratio):
    pyramid, x = Pyramid((1, 2, SIDE), C, ratio=ratio), torch.randn(2, SIDE**2, C)
    torch.nn.init.normal_(pyramid.bias)
    i = pyramid.phi[2]
    part = slice(i * C, (i + 1) * C)
    maps = x.mT.reshape(2, C, SIDE, SIDE)
    folded = F.conv2d(maps, pyramid.weight[part], pyramid.bias[part], padding=1)
    expected = (1 - ratio) * maps + ratio * folded
    got = pyramid.contribution(x, 2, pyramid.kernels()).mT.reshape(expected.shape)
    torch.testing.assert_close(got, expected)


def test_splitting_and_merging_are_inverse(pyramid):
    f = torch.randn(2, SIDE**2, C)
    # Not codes: any vectors.
    residuals, sums = pyramid.split(f, lambda rest: rest.round(decimals=1))
    torch.testing.assert_close(pyramid.merge(residuals.round(decimals=1)), sums[-1])
    for k in (1, 2):
        part = pyramid.merge(residuals.round(decimals=1), k)
        torch.testing.assert_close(part, sums[k - 1])
        first, last = SPANS[k]
        torch.testing.assert_close(pyramid.down(f - part, k), residuals[:, first:last])


def test_inputs_are_the_sum_of_the_coarser_scales_seen_at_each_scale(pyramid):
    vectors = torch.randn(2, L, C)
    inputs = pyramid.inputs(vectors)
    assert inputs.shape == (2, L - 1, C)
    for k in (1, 2):
        first, last = SPANS[k]
        expected = pyramid.down(pyramid.merge(vectors, k), k)
        torch.testing.assert_close(inputs[:, first - 1 : last - 1], expected)


@pytest.mark.parametrize("as_matrix", [True, False])
@pytest.mark.parametrize("i", [0, 3, 7])
def test_a_vector_moves_the_inputs_of_finer_scales_alone(i, as_matrix, pyramid, monkeypatch):
    monkeypatch.setattr("dd2core.families.var.pyramid.MATRIX_LIMIT", 2048 if as_matrix else 0)
    frozen = FrozenPyramid(pyramid)
    assert (frozen.matrix is not None) == as_matrix
    x = torch.randn(2, L, C)
    y = x.clone()
    y[:, i] += 1
    moved = (frozen.inputs(y) - frozen.inputs(x)).abs().amax((0, 2)) > 0
    scale = next(k for k, (first, last) in enumerate(SPANS) if first <= i < last)
    assert not moved[: SPANS[scale][1] - 1].any()
    assert moved.any() == (scale < 2)


def test_a_frozen_copy_is_one_matrix_and_the_same_function(pyramid):
    frozen, x = FrozenPyramid(pyramid), torch.randn(3, L, C)
    assert not list(frozen.parameters()) and not frozen.state_dict()
    torch.testing.assert_close(frozen.inputs(x), pyramid.inputs(x), atol=1e-5, rtol=1e-5)
    for k in (1, 2):
        first, last = SPANS[k]
        torch.testing.assert_close(frozen.input_of(k, x[:, :first]),
                                   pyramid.inputs(x)[:, first - 1 : last - 1], atol=1e-5, rtol=1e-5)


def test_the_matrix_is_exactly_zero_where_a_scale_sees_nothing(pyramid, monkeypatch):
    """Some kernels round a large batch otherwise than a small one: as if by 1e-6 here."""
    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d",
                        lambda x, *a, **o: conv2d(x, *a, **o) + 1e-6 * (len(x) > 1))
    matrix = FrozenPyramid(pyramid).matrix.view(L, C, L - 1, C).abs().amax((1, 3))
    scale = torch.tensor([k for k, (first, last) in enumerate(SPANS) for _ in range(first, last)])
    assert torch.equal(matrix > 0, scale[:, None] < scale[None, 1:])


def test_a_frozen_copy_follows_when_told_to(pyramid):
    frozen, x = FrozenPyramid(pyramid), torch.randn(1, L, C)
    with torch.no_grad():
        pyramid.weight.mul_(2)
    assert not torch.allclose(frozen.inputs(x), pyramid.inputs(x), atol=1e-3)
    frozen.copy_from(pyramid)
    torch.testing.assert_close(frozen.inputs(x), pyramid.inputs(x), atol=1e-5, rtol=1e-5)


def test_under_autocast_it_stays_in_full_precision(pyramid):
    x = torch.randn(2, L, C)
    frozen = FrozenPyramid(pyramid)

    def results():
        return (pyramid.inputs(x), pyramid.merge(x), frozen.inputs(x),
                frozen.input_of(2, x[:, : SPANS[2][0]]))

    expected = results()
    with torch.autocast("cpu", torch.bfloat16):
        got = results()
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("patch_nums", [(), (2, 2), (3, 1), (0, 1)])
def test_scales_must_grow(patch_nums):
    with pytest.raises(DD2Error, match="increasing whole numbers"):
        Pyramid(patch_nums, C)


# The tokenizer --------------------------------------------------------------------------------

@torch.no_grad()
def test_images_become_tokens_and_tokens_become_images(tokenizer):
    x = images(tokenizer)
    tokens = tokenizer.encode(x)
    assert tokens.shape == (3, L) and tokens.dtype == torch.int64
    assert tokens.min() >= 0 and tokens.max() < V
    y = tokenizer.decode(tokens)
    assert y.shape == x.shape and y.abs().max() <= 1


@torch.no_grad()
def test_decoding_is_clamped_to_the_range_of_images(tokenizer):
    tokenizer.decoder.conv_out.bias.fill_(5)
    assert (tokenizer.decode(torch.zeros(1, L, dtype=torch.int64)) == 1).all()


@torch.no_grad()
def test_tokens_are_the_codes_nearest_to_what_is_left_over(tokenizer):
    x = images(tokenizer)
    tokens, features = tokenizer.encode(x), tokenizer.features(x)
    assert torch.equal(tokens, nearest_code(features, tokenizer.codes))
    f = tokenizer.feature_map(x)
    torch.testing.assert_close(features[:, :1], f.mean(1, keepdim=True))  # area to one pixel
    left = f - tokenizer.pyramid.merge(tokenizer.codes[tokens], 2)
    torch.testing.assert_close(features[:, 5:], left)


@torch.no_grad()
def test_coarse_scales_alone_paint_a_coarse_image(tokenizer):
    tokens = tokenizer.encode(images(tokenizer))
    other = tokens.clone()
    other[:, 5:] = (other[:, 5:] + 1) % V
    assert torch.equal(tokenizer.decode(tokens, 2), tokenizer.decode(other, 2))
    assert not torch.equal(tokenizer.decode(tokens, 3), tokenizer.decode(other, 3))
    assert torch.equal(tokenizer.decode(tokens, 3), tokenizer.decode(tokens))


def test_the_straight_through_pass_decodes_the_tokens(tokenizer):
    x = images(tokenizer)
    recon, tokens, codebook_loss, commitment = tokenizer(x)
    assert torch.equal(tokens, tokenizer.encode(x))
    torch.testing.assert_close(recon.clamp(-1, 1), tokenizer.decode(tokens), atol=1e-5, rtol=1e-4)
    f, codes = tokenizer.feature_map(x), tokenizer.codes[tokens]
    errors = [(tokenizer.pyramid.merge(codes, k) - f).square().mean() for k in (1, 2, 3)]
    torch.testing.assert_close(codebook_loss, sum(errors) / 3)
    torch.testing.assert_close(commitment, sum(errors) / 3)


PARTS = ("encoder.conv_in.weight", "quant_conv.weight", "embedding", "pyramid.weight",
         "post_quant_conv.weight", "decoder.conv_out.weight")


@pytest.mark.parametrize(("loss", "reached"), [
    (0, {PARTS[0], PARTS[1], PARTS[4], PARTS[5]}),  # reconstruction: past codes and φ
    (2, {"embedding", "pyramid.weight"}),  # codebook loss
    (3, {PARTS[0], PARTS[1]}),  # commitment
], ids=["reconstruction", "codebook", "commitment"])
def test_each_loss_reaches_its_own_parameters(loss, reached, tokenizer):
    tokenizer(images(tokenizer))[loss].square().mean().backward()
    named = dict(tokenizer.named_parameters())
    got = {p for p in PARTS if named[p].grad is not None and named[p].grad.abs().max() > 0}
    assert got == reached


def test_reviving_moves_unused_codes_onto_features_and_leaves_the_others(tokenizer):
    before = tokenizer.embedding.detach().clone()
    unused = torch.zeros(V, dtype=torch.bool)
    unused[[1, 7, 30]] = True
    features = torch.randn(40, C)
    tokenizer.revive(unused, features, torch.Generator().manual_seed(0))
    after = tokenizer.embedding.detach()
    assert torch.equal(after[~unused], before[~unused])
    assert torch.cdist(after[unused], features).amin(-1).max() < 1e-3
    assert tokenizer.embedding.requires_grad


def test_what_a_revived_code_gets_does_not_hang_on_which_others_are_unused(tokenizer):
    features, got = F.normalize(torch.randn(40, C), dim=-1), []
    for unused in ([7, 30], [1, 7, 30]):
        mask = torch.zeros(V, dtype=torch.bool).index_fill_(0, torch.tensor(unused), True)
        tokenizer.revive(mask, features, torch.Generator().manual_seed(0))
        got.append(tokenizer.embedding.detach()[[7, 30]].clone())
    assert torch.equal(*got)


def test_a_few_steps_of_training_lower_the_error():
    tokenizer = tiny_var.tokenizer()
    x = F.interpolate(torch.rand(8, 1, 4, 4) * 2 - 1, size=16, mode="bilinear")
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    errors = []
    for _ in range(30):
        recon, _, codebook_loss, commitment = tokenizer(x)
        error = (recon - x).square().mean()
        optimizer.zero_grad()
        (error + codebook_loss + 0.25 * commitment).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.6 * errors[0]


@pytest.mark.parametrize(("size", "patch_nums"), [(30, (1, 2)), (16, (1, 2, 3)), (32, (1, 2, 4)),
                                                  (16, ())])
def test_an_image_size_that_the_scales_do_not_fit_is_one_sentence(size, patch_nums):
    with pytest.raises(DD2Error, match="must be the last of patch_nums") as error:
        VARTokenizer(VARTokenizerConfig(size, 1, 8, (1, 2, 2), (0, 1, 1), 8, V, C, 4, True,
                                        patch_nums))
    assert "\n" not in str(error.value)


def test_the_default_config_has_the_tensors_of_the_official_tokenizer():
    official = description("var_official_keys")["vae_ch160v4096z32"]
    expected = Counter(tuple(s) for k, s in official.items() if "ema_vocab" not in k)
    with torch.device("meta"):
        state = VARTokenizer(VARTokenizerConfig()).state_dict()
    got = Counter(tuple(a.shape) for a in state.values())
    # Ours: one projection each for q, k and v; theirs: all φ in one tensor.
    numbers = sum(math.prod(s) * n for s, n in expected.items())
    assert sum(math.prod(s) * n for s, n in got.items()) == numbers
    assert got[(128, 32, 3, 3)] == 1 and expected[(32, 32, 3, 3)] == 4 + 2
    assert got[(640, 640, 3, 3)] == expected[(640, 640, 3, 3)]
