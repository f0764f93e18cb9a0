"""Token sequences of the teacher, and the stages that learn from them."""

import json

import pytest
import torch

from dd2core.store.files import read_json
from dd2core.store.folder import load_teacher
from tests.support.train_helpers import config, grey, log_steps, snapshot
from tests.train.engine.test_base import make_base
from train import evaluate
from train.all import commands, unneeded
from train.data.shards import samples

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "made")


def drawn(made, out, *words):
    cfg = config(f"base={made}", f"out={out}", "samples.per_file=4", *words)
    return samples.load_samples(cfg, load_teacher(made, CPU))


def rows(data):
    return torch.cat([data.tokens[:], data.test_tokens[:]])


def test_a_sample_depends_on_seed_number_and_label_alone(made, tmp_path):
    first = drawn(made, tmp_path / "a", "samples.n=10", "samples.batch=4")
    assert torch.equal(torch.cat([first.labels, first.test_labels]), torch.arange(10) % 3)
    other_batch = drawn(made, tmp_path / "b", "samples.n=10", "samples.batch=3")
    assert torch.equal(rows(first), rows(other_batch))
    more = drawn(made, tmp_path / "a", "samples.n=14", "samples.batch=4")
    assert torch.equal(rows(more)[:10], rows(first))
    seeded = drawn(made, tmp_path / "c", "samples.n=10", "seed=1")
    assert not torch.equal(rows(first), rows(seeded))


def test_they_are_those_of_the_teacher_under_the_stages_own_sampling(made, tmp_path):
    greedy = drawn(made, tmp_path, "samples.n=6", "samples.sampling.top_k=1")
    teacher, y = load_teacher(made, CPU), torch.arange(6) % 3
    *_, (wanted, _) = teacher.steps(y, **config().samples.sampling.override(top_k=1).keywords())
    assert torch.equal(rows(greedy), wanted)
    cfg = config(f"base={made}", f"out={tmp_path}", "samples.n=6", "samples.per_file=4",
                 "samples.sampling.temperature=3")
    free = samples.load_samples(cfg, teacher)
    assert not torch.equal(rows(free), wanted)  # another sampling is another set
    noise = samples.sample_noise(cfg, samples.sample_set(cfg, teacher).shards[0], 16)
    *_, (wanted, _) = teacher.steps(y[:4], **cfg.samples.sampling.keywords(), noise=noise)
    assert torch.equal(rows(free)[:4], wanted)


def test_gts_and_what_follows_train_on_samples_without_any_picture(made, tmp_path):
    words = (f"base={made}", "gts.data=samples", "data=nowhere", "samples.n=40",
             "samples.per_file=16", "warm.steps=6")
    assert grey("samples", tmp_path, *words) is None
    before = snapshot(tmp_path / "samples")
    for stage in ("gts", "warm", "csd"):
        assert grey(stage, tmp_path, *words) is None
        assert log_steps(tmp_path / stage) == [1, 2, 3, 4, 5, 6]
        assert "samples/source.json" in read_json(tmp_path / stage / "origin.json")["files"]
    assert snapshot(tmp_path / "samples") == before and not (tmp_path / "tokens").exists()
    changed = grey("gts", tmp_path, *words, "samples.sampling.top_k=5", "gts.steps=8")
    assert "another samples/source.json" in changed


def test_drawing_counts_as_training(made, tmp_path):
    out = tmp_path / "run"
    drawn(made, out, "samples.n=10")
    lines = [json.loads(x) for x in (out / "samples" / "log.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == [1, 2, 3] and lines[-1]["images"] == 10
    first = lines[-1]["seconds"]
    assert first > 0
    drawn(made, out, "samples.n=20")
    last = json.loads((out / "samples" / "log.jsonl").read_text().splitlines()[-1])
    assert last["seconds"] > first and last["images"] == 20  # the first ten are paid for
    for stage, seconds in (("gts", 60), ("csd", 120)):
        (out / stage).mkdir()
        line = json.dumps({"step": 6, "seconds": seconds, "images": 1})
        (out / stage / "log.jsonl").write_text(line + "\n")
    for folder in (out / "csd", tmp_path):
        (folder / "generator.safetensors").write_bytes(b"the same")
    words = ("evaluate.sampler=one_step", f"out={out}", "tune.steps=0", "csd.start=gts")
    plain, own = (evaluate.training_minutes(config(*words, f"gts.data={kind}"), tmp_path)
                  for kind in ("data", "samples"))
    assert plain == 3 and own == pytest.approx(3 + last["seconds"] / 60)


def test_train_all_draws_them_where_a_stage_needs_them():
    for kind, stages in (("data", ["teacher", "gts"]), ("samples", ["teacher", "samples", "gts"])):
        found = [words[0] for words in commands([], unneeded(config(f"gts.data={kind}")))]
        assert [s for s in found if s in ("teacher", "samples", "gts")] == stages
