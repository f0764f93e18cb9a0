"""Every place that looks at a part of a class-sorted data set sees all classes in their shares."""

from types import SimpleNamespace

import pytest
import torch

from tests.support.train_helpers import config, split_pictures
from train import dd1, evaluate, gts
from train.data.fashion import Data
from train.data.tokens import TokenData
from train.measure import stream

SORTED = torch.arange(20).repeat_interleave(250)


def shares(labels) -> list[int]:
    return labels.bincount(minlength=20).tolist()


@pytest.fixture
def data():
    """5,000 images of 20 classes, sorted; an image and its tokens say its class."""
    images = SORTED.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return Data(images, SORTED, images, SORTED, [str(i) for i in range(20)])


def test_pairs_are_of_all_classes(tmp_path, monkeypatch):
    teacher = SimpleNamespace(num_tokens=2, code_dim=1, device=torch.device("cpu"))
    monkeypatch.setattr(dd1, "fingerprint", lambda teacher: "0" * 64)
    monkeypatch.setattr(dd1, "dd1_pairs", lambda teacher, y, *args: y[:, None].expand(-1, 2))
    cfg = config(f"out={tmp_path}", "warm.pairs=96", "warm.pair_batch=10")
    tokens = SORTED[:, None].expand(-1, 2)
    pairs, _ = dd1.load_pairs(cfg, teacher, TokenData(tokens, SORTED, tokens, SORTED), cfg.warm)
    assert set(shares(pairs["labels"])) == {4, 5}
    assert torch.equal(pairs["tokens"][:, 0], pairs["labels"])


@pytest.mark.parametrize("n", [100, 2000, 5000, 7000])
def test_samples_follow_the_classes_of_the_test_set(n, data, monkeypatch):
    def sampled(pipe, cfg, labels, seed):
        return (labels.to(torch.uint8)[:, None, None, None], labels[:, None], {"passes": 1})

    monkeypatch.setattr(evaluate, "sample_batch", sampled)
    cfg = config(f"evaluate.n={n}", "evaluate.sampler=one_step")
    images, labels, few, tokens, _ = evaluate.sample(None, cfg, data)
    assert shares(labels) == [n // 20] * 20 and shares(images[:, 0, 0, 0].long()) == [n // 20] * 20
    assert torch.equal(tokens[:, 0], labels[few])
    assert shares(labels[few]) == [min(n, 2000) // 20] * 20


@pytest.mark.parametrize("sampler", ["tokenizer", "train_set"])
def test_the_floors_follow_them_too(sampler, data, monkeypatch):
    monkeypatch.setattr(evaluate, "encode_all", lambda tokenizer, x, device: x[:, 0, 0, :1].long())
    monkeypatch.setattr(evaluate, "reconstruct", lambda teacher, tokens: (tokens, 0))
    pipe = SimpleNamespace(teacher=SimpleNamespace(tokenizer=None), device=None)
    cfg = config("evaluate.n=100", f"evaluate.sampler={sampler}")
    images, labels, few, tokens, _ = evaluate.sample(pipe, cfg, data)
    n = 5000 if sampler == "train_set" else 100
    assert len(images) == n and shares(labels) == [n // 20] * 20
    assert shares(labels[few]) == [5] * 20 and torch.equal(tokens[:, 0], labels[few])


def test_the_sample_grid_shows_all_classes(data, monkeypatch):
    images = data.images.float().to(torch.uint8)
    monkeypatch.setattr(evaluate, "sample", lambda *a: (images, SORTED, SORTED[:1], SORTED[:1], {}))
    monkeypatch.setattr(evaluate, "numbers_of", lambda *a: {})
    monkeypatch.setattr(evaluate, "_result", lambda *a: None)
    pipe = SimpleNamespace(device="cpu")
    cfg = config("evaluate.sampler=one_step")
    _, shown, _ = evaluate.measure(cfg, pipe, None, data)
    assert shares(shown[:, 0, 0, 0].long()) == [5] * 20


def test_the_held_out_score_loss_is_of_all_classes(monkeypatch):
    seen = []

    def loss(model, teacher, tokens, labels, options):
        seen.append(labels)
        assert torch.equal(tokens[:, 0], labels)
        return torch.tensor(1.0)

    monkeypatch.setattr(gts, "gts_step_loss", loss)
    tokens = SORTED[:, None]
    teacher = SimpleNamespace(device=torch.device("cpu"))
    gts.held_out_loss(None, teacher, TokenData(tokens, SORTED, tokens, SORTED), None, 0)
    assert shares(torch.cat(seen)) == [100] * 20


def test_reconstructions_are_of_all_classes_from_the_beginning_on(tmp_path):
    made = split_pictures(tmp_path / "data")
    cfg = config(f"data={made}", "channels=3", "evaluate.sampler=tokenizer", "evaluate.n=12")
    labels, _ = stream._plan(SimpleNamespace(teacher=None), cfg)
    assert labels.bincount().tolist() == [4, 4, 4]
    assert labels[:6].bincount().tolist() == [2, 2, 2]


@pytest.mark.parametrize(("n", "classes"), [(500, 1000), (24, 5), (7, 3), (3, 20), (2, 20)])
def test_labels_that_go_round_leave_no_end_out(n, classes):
    found = stream.balanced(n, classes).bincount(minlength=classes)
    assert found.sum() == n and found.max() - found.min() <= 1
    rest = n % classes
    if rest > 1:  # not all of them at the beginning
        last = found.nonzero()[-1] if n < classes else (found == found.max()).nonzero()[-1]
        assert last >= classes // 2


