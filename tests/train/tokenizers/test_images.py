"""What the tokenizer stage trains on: reading ahead, flips, crops; and in several processes."""

import shutil

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.noise import Part
from dd2core.store.files import read_json, read_tensors
from dd2core.store.state import load_state
from tests.harness.damage import is_sentence
from tests.support.forked import forked
from tests.support.train_helpers import PICTURES, config, copy_stages, grey, write_idx_set
from train.tokenizers.images import Images, augmented

SIZE = 16


def test_read_ahead_or_in_memory_the_batches_are_the_same():
    memory, ahead = Images(config()), Images(config("tokenizer.workers=1"))
    for i in (0, 1, 3):  # 3: as after a resumed run
        assert torch.equal(memory.batch(i), ahead.batch(i))
    assert torch.equal(torch.cat(list(memory.test())), torch.cat(list(ahead.test())))


def test_a_picture_that_cannot_be_read_is_one_sentence(tmp_path):
    shutil.copytree(PICTURES, tmp_path / "data")
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DD2Error, match="cannot be read as a picture") as error:
        Images(config(f"data={tmp_path / 'data'}", "tokenizer.workers=1")).batch(0)
    assert is_sentence(str(error.value))


def test_half_of_the_images_are_mirrored_and_each_step_others():
    x = torch.rand(64, 1, SIZE, SIZE)
    found = [augmented(x, 64, Part(), True, 0.0, SIZE) for _ in range(2)]
    same = [(y == x).flatten(1).all(1) for y in found]
    for y, kept in zip(found, same, strict=True):
        assert 16 < kept.sum() < 48 and torch.equal(y[~kept], x[~kept].flip(-1))
    assert not torch.equal(*same)
    assert augmented(x, 64, Part(), False, 0.0, SIZE) is x


def test_a_crop_is_a_square_part_within_the_picture():
    rows = torch.linspace(-1, 1, 20)[:, None].expand(20, 20)
    x = torch.stack([rows, rows.T])[None].expand(200, 2, 20, 20)  # each pixel tells its place
    y = augmented(x, 200, Part(), False, 0.2, SIZE)
    assert y.shape == (200, 2, SIZE, SIZE)
    top, bottom = y[:, 0, 0, 0], y[:, 0, -1, 0]
    left, right = y[:, 1, 0, 0], y[:, 1, 0, -1]
    torch.testing.assert_close(bottom - top, right - left, atol=1e-4, rtol=0)  # square
    side = (bottom - top) / (2 * (1 - 1 / SIZE)) * 19 / 20  # of the picture's; ends are clamped
    assert 0.77 < side.min() < 0.83 and 0.95 < side.max() <= 1.01
    assert top.std() > 0.03 and left.std() > 0.03 and (top - left).abs().max() > 0.05
    assert y.min() >= -1 and y.max() <= 1


def test_a_part_of_a_batch_has_what_it_has_in_the_whole():
    x = torch.rand(8, 1, 20, 20)
    torch.manual_seed(1)
    whole = augmented(x, 8, Part(), True, 0.2, SIZE)
    for r in (0, 1):
        torch.manual_seed(1)
        part = Part(r, 2)
        torch.testing.assert_close(augmented(part.take(x), 8, part, True, 0.2, SIZE),
                                   part.take(whole))


def test_crops_are_of_pictures_read_larger():
    images = Images(config("tokenizer.crop=0.2"))
    assert images.data.images.shape[-1] == 20 and images.batch(0).shape == (8, 1, SIZE, SIZE)
    assert next(images.test()).shape == (6, 1, SIZE, SIZE)
    ahead = Images(config("tokenizer.crop=0.2", "tokenizer.workers=1"))
    torch.manual_seed(2)
    one = images.batch(2)
    torch.manual_seed(2)
    assert torch.equal(one, ahead.batch(2))


@pytest.mark.parametrize("word", ["tokenizer.crop=0.2", "tokenizer.workers=1"])
def test_what_is_for_pictures_alone_is_refused_for_idx_files(word, tmp_path):
    write_idx_set(tmp_path, size=SIZE)
    with pytest.raises(DD2Error, match="pictures in class folders") as error:
        Images(config(f"data={tmp_path}", word))
    assert is_sentence(str(error.value))


def test_more_passes_are_refused():
    with pytest.raises(DD2Error, match="tokenizer.accumulate=2"):
        config("tokenizer.accumulate=2")


def train_tokenizer(rank, out, words):
    assert grey("tokenizer", out, *words) is None


def test_two_processes_train_as_one_does(tmp_path):
    words = ("tokenizer.perceptual=0.5", "tokenizer.adversarial=0.5", "tokenizer.r1=1",
             "tokenizer.flip=true", "tokenizer.crop=0.2", "tokenizer.lr=1e-6",
             # One token that rounding turns over would shift what every unused code gets.
             "tokenizer.revive_every=100")
    one, two = tmp_path / "one", tmp_path / "two"
    assert grey("classifier", one, "classifier.steps=2") is None
    copy_stages(one, two, "classifier")
    assert grey("tokenizer", one, *words) is None
    done = forked(tmp_path, train_tokenizer, two, words)
    assert [code for code, _ in done] == [0, 0], done
    a, b = (load_state(out / "tokenizer" / "state.pt") for out in (one, two))
    assert a["networks"].keys() == {"model", "ema", "used", "discriminator"}
    for name, network in a["networks"].items():  # Adam makes steps of up to lr out of rounding
        for key, value in network.items():
            torch.testing.assert_close(b["networks"][name][key], value, atol=2e-5, rtol=0, msg=key)
    for name, optimizer in a["optimizers"].items():
        for key, found in optimizer["state"].items():
            torch.testing.assert_close(b["optimizers"][name]["state"][key]["exp_avg"],
                                       found["exp_avg"], atol=1e-5, rtol=1e-3)
    assert torch.equal(a["networks"]["used"]["count"], b["networks"]["used"]["count"])
    first = read_tensors(one / "tokenizer" / "tokenizer.safetensors")
    assert first.keys() == read_tensors(two / "tokenizer" / "tokenizer.safetensors").keys()
    found = [read_json(out / "tokenizer" / "result.json") for out in (one, two)]
    assert found[0]["n"] == found[1]["n"]
    assert sum(said.count("tokenizer: MSE") for _, said in done) == 1
