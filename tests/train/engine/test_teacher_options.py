"""Options of the teacher's training: dropout, the best average, ending early."""

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.noise import Part
from dd2core.store import names
from dd2core.store.files import read_json, read_tensors
from dd2core.store.state import load_state
from tests.support import tiny, tiny_var
from tests.support.train_helpers import config, copy_stages, grey, same_state
from tests.train.engine.test_loop import stops_at
from train.data.tokens import TokenData
from train.engine.best import Best
from train.teacher import TeacherJob, cross_entropy

CPU = torch.device("cpu")
FAMILIES = {"llamagen": tiny.teacher, "var": tiny_var.teacher}
WORDS = ("teacher.batch=6", "teacher.warmup=1", "teacher.class_dropout=0", "teacher.lr=0.003",
         "teacher.ema=0.5", "teacher.lr_final=1")


@pytest.fixture(params=FAMILIES)
def job(request):
    """Makes the job of the stage teacher on random tokens, few enough to learn by heart."""
    torch.manual_seed(0)
    length = FAMILIES[request.param]().num_tokens
    tokens, labels = torch.randint(32, (20, length)), torch.arange(20) % 3
    data = TokenData(tokens[:12], labels[:12], tokens[12:], labels[12:])

    def make(*words) -> TeacherJob:
        transformer = FAMILIES[request.param]().transformer.requires_grad_(True).train()
        return TeacherJob(config(*WORDS, *words), transformer, data, CPU)

    return make


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(),
                                                 strict=True))


# Dropout --------------------------------------------------------------------------------------

def test_without_dropout_no_bit_and_no_random_number_changes(job):
    a, b = job(), job("teacher.dropout=0")
    del b.model.backbone.dropout
    for block in b.model.backbone.blocks:
        del block.dropout  # what the class has: as if nobody had ever asked
    states = []
    for j in (a, b):
        torch.manual_seed(7)
        assert j.step(0)["loss"] > 0
        states.append(torch.get_rng_state())
    assert same(a.model, b.model) and torch.equal(*states)


def test_dropout_is_of_inputs_attention_and_feed_forward_each(job, monkeypatch):
    j, shapes = job("teacher.dropout=0.25"), []
    dropout = torch.nn.functional.dropout
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p: (
        shapes.append((x.numel(), p)) or dropout(x, p)))
    j.step(0)
    blocks, numbers = len(j.model.backbone.blocks), 6 * j.data.tokens.shape[1] * 32
    assert shapes == [(numbers, 0.25)] * (1 + 2 * blocks)


def test_dropout_is_for_the_steps_of_training_alone(job):
    j = job("teacher.dropout=0.5")
    tokens, labels = j.data.tokens[:4], j.data.labels[:4]
    one, two = j.model(tokens, labels), j.model(tokens, labels)
    assert not torch.equal(one, two)
    average = j.ema.module  # in training mode, too
    assert torch.equal(average(tokens, labels), average(tokens, labels))
    j.model.eval()
    assert torch.equal(j.model(tokens, labels), j.model(tokens, labels))


def test_no_network_of_the_distillation_drops_anything(job):
    for teacher in (tiny.teacher(), tiny_var.teacher()):
        teacher.transformer.backbone.set_dropout(0.0)
        for module in (teacher.transformer, teacher.backbone().train()):
            assert all(getattr(m, "dropout", 0.0) == 0 for m in module.modules()
                       if isinstance(getattr(m, "dropout", 0.0), float))


def test_passes_of_a_batch_drop_different_numbers_and_a_step_always_the_same(job):
    j = job("teacher.dropout=0.5")
    whole = [j.loss(3, Part()).item() for _ in range(2)]
    assert whole[0] == whole[1] != j.loss(4, Part()).item()
    j.data = TokenData(*(a[:1].expand(12, *a.shape[1:]) for a in (j.data.tokens, j.data.labels)),
                       j.data.test_tokens, j.data.test_labels)
    assert j.loss(3, Part(0, 2)).item() != j.loss(3, Part(1, 2)).item()


# The best average -----------------------------------------------------------------------------

def test_the_best_is_the_lowest_and_remembers_when():
    module = torch.nn.Linear(2, 2)
    best = Best(module)
    for step, value in ((1, 3.0), (2, 2.0), (3, 2.5), (4, 2.0)):
        torch.nn.init.constant_(module.weight, step)
        best.offer(value, step, module)
    assert (best.value.item(), int(best.step), int(best.waited)) == (2, 2, 2)
    assert (best.module.weight == 2).all() and not best.module.weight.requires_grad


def test_what_learns_by_heart_keeps_its_best_average(job, tmp_path):
    j = job("teacher.keep=best", "teacher.check_every=5", "teacher.steps=60")
    seen, averages = {}, {}
    for i in range(60):
        found = j.step(i)
        assert ("test_nats" in found) == ((i + 1) % 5 == 0)
        if "test_nats" in found:
            seen[i + 1] = found["test_nats"]
            averages[i + 1] = {k: a.clone() for k, a in j.ema.module.state_dict().items()}
    first = min(seen, key=seen.get)
    assert first < 40 and seen[60] > seen[first] + 0.2  # by heart
    j.finish(tmp_path)
    found = read_json(tmp_path / names.RESULT)
    assert found["kept_step"] == first
    kept = read_tensors(tmp_path / names.weights("teacher"))
    assert all(torch.equal(a.half(), averages[first][k].half()) for k, a in kept.items())
    chosen = cross_entropy(j.best.module, j.data.test_tokens[::2], j.data.test_labels[::2], CPU)
    assert seen[first] == pytest.approx(chosen)
    other = cross_entropy(j.best.module, j.data.test_tokens[1::2], j.data.test_labels[1::2], CPU)
    assert found["unchosen_nats_per_token"] == pytest.approx(other)
    assert found["test_nats_per_token"] == pytest.approx((chosen + other) / 2)


def test_training_ends_after_so_many_measurements_without_a_better_one(job):
    j = job("teacher.keep=best", "teacher.check_every=1", "teacher.patience=3",
            "teacher.lr=0.01", "teacher.steps=200")
    values = []
    for i in range(200):
        values.append(j.step(i)["test_nats"])
        if j.ended:
            break
    best = values.index(min(values))
    assert len(values) == best + 4 < 200
    assert not job().ended and not job("teacher.keep=best").ended


def test_a_stopped_run_keeps_the_same_best(tmp_path):
    words = ("teacher.keep=best", "teacher.check_every=1", "teacher.dropout=0.1", "teacher.lr=0.3")
    assert grey("tokenizer", tmp_path / "a") is None
    assert grey("teacher", tmp_path / "a", *words) is None
    parts = copy_stages(tmp_path / "a", tmp_path / "b", "tokenizer", "tokens")
    with stops_at(4):
        assert "the same command again resumes" in grey("teacher", parts, *words)
    torch.manual_seed(9)
    assert grey("teacher", parts, *words) is None
    assert same_state(tmp_path / "a" / "teacher", parts / "teacher")
    best = load_state(parts / "teacher" / "state.pt")["networks"]["best"]
    assert best["step"] > 0 and best["value"] < 100
    found = read_json(parts / "teacher" / "result.json")
    assert found["kept_step"] == int(best["step"])
    ended = copy_stages(tmp_path / "a", tmp_path / "c", "tokenizer", "tokens")
    words = (*words, "teacher.patience=1")
    assert grey("teacher", ended, *words) is None
    step = load_state(ended / "teacher" / "state.pt")["step"]
    assert step < 6
    assert grey("teacher", ended, *words) is None  # it stays ended
    assert load_state(ended / "teacher" / "state.pt")["step"] == step


@pytest.mark.parametrize("words, says", [
    (["teacher.keep=first"], "teacher.keep=first is unknown: use last or best"),
    (["teacher.patience=2"], "teacher.patience=2 needs teacher.keep=best"),
    (["teacher.dropout=1"], "teacher.dropout=1"), (["teacher.check_every=0"], "check_every=0")])
def test_options_that_cannot_be_are_one_sentence(words, says):
    with pytest.raises(DD2Error, match=says):
        config(*words)
