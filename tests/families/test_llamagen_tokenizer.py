"""The VQ tokenizer: shapes, unit codes, straight-through, revival, the official sizes."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from dd2core.errors import DD2Error
from dd2core.families.llamagen.settings import VQConfig
from dd2core.families.llamagen.tokenizer import VQTokenizer
from tests.support import tiny

V, C, L = 32, 4, 16


@pytest.fixture(params=[1, 3], ids=["grey", "rgb"])
def tokenizer(request):
    return tiny.tokenizer(request.param)


def images(tokenizer, n=3):
    return torch.rand(n, tokenizer.cfg.in_channels, 16, 16) * 2 - 1


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


def test_tokens_are_in_raster_order(tokenizer):
    for part in ("encoder", "quant_conv", "post_quant_conv", "decoder"):
        setattr(tokenizer, part, torch.nn.Identity())
    x = F.normalize(torch.randn(2, C, 4, 4), dim=1)  # an image whose pixels are codes
    z = tokenizer.features(x)
    torch.testing.assert_close(z[:, 1 * 4 + 3], x[:, :, 1, 3])
    torch.testing.assert_close(tokenizer.decode_vectors(z), x)


@torch.no_grad()
def test_a_code_is_its_own_token(tokenizer):
    tokens = torch.arange(V)
    codes = tokenizer.codes
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(V))
    tokenizer.features = lambda x: x
    assert torch.equal(tokenizer.encode(codes[tokens]), tokens)


@torch.no_grad()
def test_codes_and_features_are_unit_vectors_whatever_the_table_holds(tokenizer):
    before = tokenizer.codes.clone()
    tokenizer.embedding.mul_(7)
    torch.testing.assert_close(tokenizer.codes, before)
    norms = tokenizer.features(images(tokenizer)).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(3, L))


def test_the_straight_through_pass_decodes_the_tokens(tokenizer):
    x = images(tokenizer)
    recon, tokens, codebook_loss, commitment = tokenizer(x)
    assert torch.equal(tokens, tokenizer.encode(x))
    torch.testing.assert_close(recon.clamp(-1, 1), tokenizer.decode(tokens))
    z, c = tokenizer.features(x), tokenizer.codes[tokens]
    expected = (z - c).square().sum(-1).mean()
    torch.testing.assert_close(codebook_loss, expected)
    torch.testing.assert_close(commitment, expected)


PARTS = ("encoder.conv_in.weight", "quant_conv.weight", "embedding", "post_quant_conv.weight",
         "decoder.conv_out.weight")


@pytest.mark.parametrize("loss, reached", [
    (0, {PARTS[0], PARTS[1], PARTS[3], PARTS[4]}),  # reconstruction: past the codes, not into them
    (2, {"embedding"}),  # codebook loss
    (3, {PARTS[0], PARTS[1]}),  # commitment
], ids=["reconstruction", "codebook", "commitment"])
def test_each_loss_reaches_its_own_parameters(loss, reached, tokenizer):
    tokenizer(images(tokenizer))[loss].square().mean().backward()
    named = dict(tokenizer.named_parameters())
    got = {p for p in PARTS if named[p].grad is not None and named[p].grad.abs().max() > 0}
    assert got == reached


def test_the_straight_through_gradient_is_the_decoders(tokenizer):
    x = images(tokenizer)
    z = tokenizer.features(x).detach().requires_grad_(True)
    tokenizer.features = lambda _: z
    recon, tokens, *_ = tokenizer(x)
    c = tokenizer.codes[tokens].detach().requires_grad_(True)
    weights = torch.randn_like(recon)
    expected, = torch.autograd.grad((tokenizer.decode_vectors(c) * weights).sum(), c)
    got, = torch.autograd.grad((recon * weights).sum(), z)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_reviving_moves_unused_codes_onto_features_and_leaves_the_others(tokenizer):
    before = tokenizer.embedding.detach().clone()
    unused = torch.zeros(V, dtype=torch.bool)
    unused[[1, 7, 30]] = True
    features = F.normalize(torch.randn(40, C), dim=-1)
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


def test_an_image_size_that_cannot_be_halved_is_one_sentence():
    with pytest.raises(DD2Error, match="image_size=30 is not a multiple of 16") as error:
        VQTokenizer(VQConfig(image_size=30))
    assert "\n" not in str(error.value)


# The official VQ-16 checkpoint of LlamaGen (vq_ds16_c2i.pt) without its buffer `codebook_used`.
VQ16 = {
    (128, 3, 3, 3): 1, (128,): 67, (128, 128, 3, 3): 22, (256, 128, 3, 3): 1, (256,): 68,
    (256, 256, 3, 3): 22, (256, 128, 1, 1): 1, (512, 256, 3, 3): 2, (512,): 101,
    (512, 512, 3, 3): 18, (512, 256, 1, 1): 1, (512, 512, 1, 1): 28, (256, 512, 3, 3): 2,
    (256, 512, 1, 1): 1, (128, 256, 3, 3): 1, (128, 256, 1, 1): 1, (3, 128, 3, 3): 1, (3,): 1,
    (16384, 8): 1, (8, 256, 1, 1): 1, (8,): 1, (256, 8, 1, 1): 1,
}


def test_the_default_config_has_the_tensors_of_the_official_vq16():
    with torch.device("meta"):
        state = VQTokenizer(VQConfig()).state_dict()
    assert Counter(tuple(a.shape) for a in state.values()) == VQ16
    assert len(state) == 343
    assert sum(math.prod(a.shape) for a in state.values()) == 71_883_403
    assert VQConfig().grid == 16
