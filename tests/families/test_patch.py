"""Space to depth before the first convolution (`patch`), in the tokenizers of both families."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from dd2core.errors import DD2Error
from dd2core.families.llamagen.settings import VQConfig
from dd2core.families.llamagen.tokenizer import VQTokenizer
from dd2core.families.var.settings import VARTokenizerConfig
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.official import load_llamagen, load_var
from dd2core.store.files import read_json, write_json, write_manifest
from dd2core.store.folder import describe, save_folder
from dd2core.store.names import CONFIG
from tests.families.test_official_llamagen import official_keys as llamagen_keys
from tests.families.test_var_parity import official_keys as var_keys
from tests.support import tiny, tiny_var
from tests.support.parity import description, meta_state
from train.publish.card import sizes

SMALL = {"width": 8, "mult": (1, 2), "res_blocks": (1, 1), "z_channels": 8, "num_codes": 32,
         "code_dim": 4, "groups": 4}
FAMILIES = {"llamagen": (VQTokenizer, VQConfig, {}),
            "var": (VARTokenizer, VARTokenizerConfig, {"patch_nums": (1, 4, 8)})}


@pytest.fixture(params=FAMILIES)
def build(request):
    """Makes a tokenizer of RGB images: (image_size, patch) → it, always from the same seed."""
    network, config, more = FAMILIES[request.param]

    def make(image_size: int = 48, patch: int = 3, **words):
        torch.manual_seed(0)
        return network(config(image_size, 3, **{**SMALL, **more, "patch": patch, **words}))

    return make


def plain_encoder(encoder, x):
    """The encoder as it was before there were patches."""
    h = encoder.conv_in(x)
    for level in encoder.levels:
        h = level(h)
    return encoder.conv_out(F.silu(encoder.norm_out(encoder.mid(h))))


def plain_decoder(decoder, z):
    """The decoder as it was before there were patches."""
    h = decoder.mid(decoder.conv_in(z))
    for level in decoder.levels:
        h = level(h)
    return decoder.conv_out(F.silu(decoder.norm_out(h)))


@torch.no_grad()
def test_patches_of_one_pixel_change_no_bit_and_no_parameter(build):
    model, x = build(16, 1), torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(model.encoder(x), plain_encoder(model.encoder, x))
    z = torch.randn(2, 8, 8, 8)
    assert torch.equal(model.decoder(z), plain_decoder(model.decoder, z))
    assert model.encoder.conv_in.weight.shape == (8, 3, 3, 3)
    assert model.decoder.conv_out.weight.shape == (3, 8, 3, 3)


@torch.no_grad()
def test_48_pixels_in_patches_of_3_halved_once_are_8_by_8_tokens(build):
    model, x = build(), torch.rand(2, 3, 48, 48) * 2 - 1
    tokens = model.encode(x)
    assert tokens.shape == (2, model.cfg.num_tokens)
    assert model.encoder(x).shape[-2:] == (8, 8)
    assert model.decode(tokens).shape == x.shape and model(x)[0].shape == x.shape
    plain, own = build(16, 1).state_dict(), model.state_dict()
    assert plain.keys() == own.keys()
    assert {k for k in own if own[k].shape != plain[k].shape} == {
        "encoder.conv_in.weight", "decoder.conv_out.weight", "decoder.conv_out.bias"}


@torch.no_grad()
def test_a_patch_is_a_square_of_neighbours_and_the_decoder_puts_it_back(build):
    model, x = build(), torch.rand(1, 3, 48, 48)
    seen = []
    model.encoder.conv_in.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    model.encoder(x)
    assert seen[0].shape == (1, 27, 16, 16)
    assert torch.equal(seen[0][0, :, 5, 7].sort().values,
                       x[0, :, 15:18, 21:24].flatten().sort().values)
    model.decoder.conv_out = torch.nn.Identity()
    model.decoder.norm_out = torch.nn.Identity()
    model.decoder.conv_in = model.decoder.mid = torch.nn.Identity()
    model.decoder.levels = torch.nn.ModuleList()
    inverse = seen[0] / torch.sigmoid(seen[0])  # the activation before the last layer
    h = model.decoder(inverse)
    torch.testing.assert_close(h, F.silu(F.pixel_shuffle(inverse, 3)))


@pytest.mark.parametrize("image_size, patch", [(44, 3), (48, 5), (45, 3)])
def test_sizes_that_do_not_divide_are_one_sentence(build, image_size, patch):
    with pytest.raises(DD2Error, match=f"image_size={image_size}.*patches of {patch}"):
        build(image_size, patch)


def test_the_official_tokenizers_have_no_patches():
    vq, vae = description("llamagen_official_keys")["VQ-16"], description("var_official_keys")[
        "vae_ch160v4096z32"]
    for loaded in (load_llamagen(meta_state(llamagen_keys("B")), meta_state(vq)),
                   load_var(meta_state(var_keys(16)), meta_state(vae))):
        assert loaded.tokenizer.cfg.patch == 1
        assert loaded.tokenizer.encoder.conv_in.weight.shape[1] == 3
    assert VQConfig().patch == VARTokenizerConfig().patch == 1


@pytest.mark.parametrize("model", [tiny.model, tiny_var.model], ids=FAMILIES)
def test_folders_written_before_there_were_patches_are_read_and_0_is_refused(model, tmp_path):
    save_folder(tmp_path, model())
    config = read_json(tmp_path / CONFIG)
    assert config["tokenizer"].pop("patch") == 1
    for patch, found in ((None, 1), (0, None), (-3, None), ("2", None)):
        write_json(tmp_path / CONFIG, config if patch is None else {
            **config, "tokenizer": {**config["tokenizer"], "patch": patch}})
        write_manifest(tmp_path)
        if found:
            assert describe(tmp_path).tokenizer.patch == found
        else:
            with pytest.raises(DD2Error, match="is not a model's"):
                describe(tmp_path)


def test_the_card_counts_the_tokens_of_patches(build):
    cfg = dataclasses.asdict(build().cfg)
    transformer = {"num_codes": 32, "depth": 1, "width": 8, "heads": 1} | (
        {"patch_nums": [1, 4, 8]} if "patch_nums" in cfg else {"grid": build().cfg.grid})
    said = sizes({"tokenizer": cfg, "transformer": transformer})
    assert said.startswith("48 px, 3 channel(s), ")
    assert f"{build().cfg.num_tokens} tokens of 32 codes" in said
