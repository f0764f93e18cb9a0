"""Pictures that do not fit in memory become the same tokens as those that do."""

import shutil

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.store.files import read_json
from dd2core.store.folder import load_teacher
from dd2core.tools.images import to_float
from tests.support.train_helpers import config, grey, kept_tokens, split_pictures
from tests.train.engine.test_base import make_base
from train.data.shards import encode
from train.data.source import find_pictures, load_data

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return split_pictures(tmp_path_factory.mktemp("split"))


def test_pictures_are_read_in_order_whatever_the_batch():
    pictures, data = find_pictures(config()), load_data(config())
    for part, images, labels in (("train", data.images, data.labels),
                                 ("test", data.test_images, data.test_labels)):
        for batch in (1, 7, 1000):
            found = list(pictures.read(part, batch))
            assert torch.equal(torch.cat([x for x, _ in found]), images)
            assert torch.equal(torch.cat([y for _, y in found]), labels)
            assert all(len(x) <= batch for x, _ in found)
    assert pictures.class_names == data.class_names


def test_train_and_val_are_the_two_parts(split):
    data = load_data(config(f"data={split}"))
    count = {part: len(list((split / part).rglob("*.png"))) for part in ("train", "val")}
    assert (len(data.images), len(data.test_images)) == (count["train"], count["val"])
    assert data.class_names == ["cross", "disc", "frame"]
    assert set(data.test_labels.tolist()) == {0, 1, 2}


def test_the_training_pictures_may_be_left_out(split):
    whole, part = (load_data(config(f"data={split}"), test_only=t) for t in (False, True))
    assert torch.equal(whole.test_images, part.test_images)
    assert torch.equal(whole.labels, part.labels) and len(part.images) == 0
    assert len(load_data(config(), test_only=True).test_images) > 0


def test_other_classes_in_val_are_refused(split, tmp_path):
    shutil.copytree(split, tmp_path / "data")
    (tmp_path / "data" / "val" / "disc").rename(tmp_path / "data" / "val" / "disk")
    with pytest.raises(DD2Error, match="train and val must have the same class folders"):
        load_data(config(f"data={tmp_path / 'data'}"))


def test_tokens_are_made_batch_by_batch(split, tmp_path, monkeypatch, capsys):
    made = make_base(tmp_path / "made")
    monkeypatch.setattr(encode, "encode_batch", lambda size: 4)
    assert grey("tokens", tmp_path / "run", f"base={made}", f"data={split}") is None
    assert "sequences of 16 tokens" in capsys.readouterr().out
    kept = kept_tokens(tmp_path / "run")
    data, teacher = load_data(config(f"data={split}")), load_teacher(made, CPU)
    assert torch.equal(kept["tokens"], teacher.encode(to_float(data.images)))
    assert torch.equal(kept["test_tokens"], teacher.encode(to_float(data.test_images)))
    assert torch.equal(kept["labels"], 2 - data.labels)  # the base counts its classes backwards
    assert read_json(tmp_path / "run" / "tokens" / "classes.json")["class_names"] == [
        "frame", "disc", "cross"]


def test_a_pass_of_the_tokenizer_takes_fewer_large_images():
    assert [encode.encode_batch(size) for size in (16, 28, 256, 384, 2048)] == [256, 256, 64, 28, 8]
