"""A decoder for codes that stay: encoder and tokens are kept, and it may have fewer blocks."""

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.store.files import read_tensors, write_tensors
from dd2core.store.state import load_state
from tests.harness.damage import is_sentence
from tests.support.train_helpers import config, grey
from train.engine.assemble import new_tokenizer
from train.tokenizer import TokenizerJob
from train.tokenizers.images import Images
from train.tokenizers.start import begin_from, decoder_blocks, freeze_all_but_decoder

SIZES = {"llamagen": (), "var": ("family=var", "tokenizer.patch_nums=[1,2,4]")}
LEARNS = ("decoder.", "post_quant_conv.")


def settings(family: str, *words: str):
    return config(*SIZES[family], "tokenizer.width=8", "tokenizer.mult=[1,2,2]",
                  "tokenizer.res_blocks=[1,1,1]", "tokenizer.z_channels=8", "tokenizer.groups=4",
                  "image_size=16", *words)


def blocks(model) -> list[int]:
    """Residual blocks per level, from full resolution."""
    return [len(level.res) for level in reversed(model.decoder.levels)]


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("words, wanted", [
    ("null", [2, 2, 2]), ("[1,2,0]", [1, 2, 0]), ("[3,0,1]", [3, 0, 1]), ("[0,1,1]", [0, 1, 1])])
def test_the_decoder_has_the_blocks_that_are_asked_for(family, words, wanted):
    model = new_tokenizer(settings(family, f"tokenizer.decoder_res_blocks={words}"))
    assert blocks(model) == decoder_blocks(model.state_dict(), 3) == wanted
    images = torch.rand(2, 1, 16, 16) * 2 - 1
    assert model.decode(model.encode(images)).shape == images.shape


@pytest.mark.parametrize("family", SIZES)
def test_a_decoder_of_fewer_blocks_begins_with_the_first_ones(family, tmp_path):
    torch.manual_seed(0)
    full = new_tokenizer(settings(family)).state_dict()
    write_tensors(tmp_path / "full.safetensors", full)
    light = new_tokenizer(settings(family, "tokenizer.decoder_res_blocks=[1,1,0]"))
    begin_from(light, str(tmp_path / "full.safetensors"))
    own = light.state_dict()
    assert all(torch.equal(full[k], a) for k, a in own.items())
    left = full.keys() - own.keys()
    assert left and all(k.startswith("decoder.levels.") for k in left)


@pytest.mark.parametrize("family", SIZES)
def test_only_the_decoder_learns(family):
    model = new_tokenizer(settings(family))
    freeze_all_but_decoder(model)
    learns = {k for k, p in model.named_parameters() if p.requires_grad}
    assert learns == {k for k, _ in model.named_parameters() if k.startswith(LEARNS)}


def test_tokens_stay_what_they_are_while_the_decoder_is_trained(tmp_path):
    """Also codes that nothing used, which are re-seeded otherwise, and over a stop."""
    words = ("tokenizer.steps=4", "tokenizer.revive_every=1", "tokenizer.num_codes=64")
    assert grey("tokenizer", tmp_path / "first", *words) is None
    path = tmp_path / "first" / "tokenizer" / "tokenizer.safetensors"
    more = (*words, f"tokenizer.init={path}", "tokenizer.decoder_only=true",
            "tokenizer.adversarial=0.5", "tokenizer.lr=0.01")
    assert grey("tokenizer", tmp_path / "second", *more) is None
    first, second = (read_tensors(tmp_path / name / "tokenizer" / path.name)
                     for name in ("first", "second"))
    same = {k for k in first if torch.equal(first[k], second[k])}
    kept = {k for k in first if not k.startswith(LEARNS)}
    assert kept <= same and len(first.keys() - same) > 10
    state = load_state(tmp_path / "second" / "tokenizer" / "state.pt")
    assert all(torch.equal(state["networks"]["model"][k].half().float(), first[k].float())
               for k in kept)


def test_codes_of_the_other_family_cannot_be_kept(tmp_path):
    path = tmp_path / "other.safetensors"
    write_tensors(path, new_tokenizer(settings("var")).state_dict())
    with pytest.raises(DD2Error, match="of the other family") as error:
        begin_from(new_tokenizer(settings("llamagen")), str(path), keep_codes=True)
    assert is_sentence(str(error.value))
    stopped = grey("tokenizer", tmp_path / "run", f"tokenizer.init={path}",
                   "tokenizer.decoder_only=true")
    assert "of the other family" in stopped and not (tmp_path / "run" / "tokenizer").exists()


def test_a_decoder_only_without_weights_to_keep_is_one_sentence(tmp_path):
    stopped = grey("tokenizer", tmp_path, "tokenizer.decoder_only=true")
    assert "tokenizer.init=" in stopped and is_sentence(stopped)


def test_blocks_for_other_levels_than_there_are_are_one_sentence(tmp_path):
    stopped = grey("tokenizer", tmp_path, "tokenizer.decoder_res_blocks=[1]")
    assert "tokenizer.decoder_res_blocks" in stopped and is_sentence(stopped)


def test_a_teacher_goes_on_with_another_decoder(tmp_path):
    """Same tokens in, other pictures out."""
    job = TokenizerJob(config(f"out={tmp_path}"), Images(config(f"out={tmp_path}")),
                       torch.device("cpu"))
    images, before = job.batch(0), job.model
    light = new_tokenizer(config(f"out={tmp_path}", "tokenizer.decoder_res_blocks=[1,1,0]"))
    kept = {k: a for k, a in before.state_dict().items() if k in light.state_dict()}
    light.load_state_dict(kept)
    tokens = before.encode(images)
    assert torch.equal(light.encode(images), tokens)
    assert not torch.equal(light.decode(tokens), before.decode(tokens))
