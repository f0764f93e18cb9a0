"""The stage adapt: a token table becomes an MLP on code vectors, the teacher as good again."""

import shutil
from pathlib import Path

import pytest
import torch

import train.adapt
from dd2core.errors import DD2Error
from dd2core.families.llamagen.vector_input import fit_error, with_mlp_input
from dd2core.store.files import read_json, read_tensors
from dd2core.store.folder import describe, load_teacher
from dd2core.store.state import load_state
from tests.support import tiny, tiny_var
from tests.support.train_helpers import cli, config, copy_stages, grey, log_steps, same_state
from tests.train.engine.test_loop import stops_at
from train.adapt import AdaptJob, FitJob, held_out_nats
from train.data.tokens import TokenData
from train.engine.loop import seeded_step
from train.teacher import TeacherJob

CPU = torch.device("cpu")
TABLE = ("teacher.token_input=table", "teacher.input_hidden=32", "adapt_fit.steps=6",
         "adapt_fit.save_every=3", "adapt_fit.log_every=1", "adapt.steps=6", "adapt.batch=8",
         "adapt.save_every=3", "adapt.log_every=1", "adapt.check_every=6", "adapt.ema=0.5")


# On tokens that follow from those before ---------------------------------------------------------

def chains(n: int, seed: int) -> torch.Tensor:
    """Sequences (n, 16) of 32 codes in which a fixed permutation of the last code comes next, but
    for one in eight."""
    g = torch.Generator().manual_seed(seed)
    after = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    x = torch.randint(32, (n, 16), generator=g)
    for i in range(1, 16):
        x[:, i] = torch.where(torch.rand(n, generator=g) < 0.125, x[:, i], after[x[:, i - 1]])
    return x


@pytest.fixture(scope="module")
def trained():
    """A teacher with a token table that knows the chains, and its data."""
    data = TokenData(chains(512, 1), torch.arange(512) % 3, chains(128, 2), torch.arange(128) % 3)
    cfg = config("teacher.batch=32", "teacher.lr=1e-2", "teacher.steps=100", "teacher.ema=0.9",
                 "teacher.lr_final=0.1")
    teacher = tiny.teacher("table")
    job = TeacherJob(cfg, teacher.transformer.requires_grad_(True), data, CPU)
    for i in range(100):
        seeded_step(cfg, job, i, "teacher")
    teacher.transformer.requires_grad_(False)
    return teacher, data


def adapted(trained, **options):
    """The jobs of fit and adaptation, run to their ends."""
    teacher, data = trained
    cfg = config(*TABLE, "adapt_fit.steps=40", "adapt_fit.lr=3e-3", "adapt.steps=200",
                 "adapt.batch=32", "adapt.lr=3e-3", "adapt.check_every=10", "adapt.warmup=5",
                 "adapt.ema=0.9", "adapt.lr_final=1.0",
                 *(f"adapt.{k}={v}" for k, v in options.items()))
    torch.manual_seed(0)
    model = with_mlp_input(teacher.transformer, 32, 2)
    fit = FitJob(cfg, model, teacher.transformer.backbone.table())
    for i in range(40):
        seeded_step(cfg, fit, i, "adapt_fit")
    target = held_out_nats(teacher.transformer, data, CPU)
    job, steps = AdaptJob(cfg, model.requires_grad_(True), data, CPU, target), 0
    while not job.ended and steps < cfg.adapt.steps:
        seeded_step(cfg, job, steps, "adapt")
        steps += 1
    return fit, job, steps


def test_the_fit_lowers_its_loss_and_adaptation_ends_when_the_cross_entropy_is_back(
        trained, tmp_path, monkeypatch):
    teacher, data = trained
    fit, job, steps = adapted(trained, tolerance=0.02)
    assert fit.error() < 0.7 * fit.first
    target, p = job.target, job.progress
    assert target < 1.2  # ln 32 = 3.47: the table is worth something
    assert p.fitted > target + 0.2  # the fitted MLP alone costs quality
    assert job.ended and 10 <= steps < 200 and steps % 10 == 0
    assert p.nats <= target + 0.02
    monkeypatch.setattr(train.adapt, "load_teacher", lambda *a, **k: teacher)
    monkeypatch.setattr(train.adapt, "class_names", lambda cfg: tiny.CLASSES)
    job.finish(tmp_path)
    said = read_json(tmp_path / "result.json")
    assert said["back"] and said["steps"] == steps
    assert said["fitted_nats_per_token"] == p.fitted and said["table_nats_per_token"] == target
    stored = load_teacher(tmp_path, CPU)
    assert held_out_nats(stored.transformer, data, CPU) == pytest.approx(
        said["test_nats_per_token"])
    assert describe(tmp_path).transformer.token_input == "mlp"


def test_without_the_training_the_cross_entropy_is_not_back(trained):
    _, job, steps = adapted(trained, steps=10, lr=1e-9)
    assert steps == 10 and not job.ended


# Networks ----------------------------------------------------------------------------------------

def test_all_but_the_input_is_the_tables_and_students_copy_the_mlp():
    table = tiny.teacher("table")
    model = with_mlp_input(table.transformer, 24, 1)
    own, given = model.state_dict(), table.transformer.state_dict()
    assert own.keys() - given.keys() == {
        f"backbone.code_input.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert given.keys() - own.keys() == {"backbone.token_table.weight"}
    assert all(torch.equal(own[k], given[k]) for k in own.keys() & given.keys())
    teacher = type(table)(table.tokenizer, model)
    student = tiny.score_model(teacher)
    assert all(name.startswith("head.") for name in student.new_parameters())
    for k, a in teacher.transformer.backbone.state_dict().items():
        assert torch.equal(student.backbone.state_dict()[k], a)
    tokens = torch.randint(32, (2, 16))
    labels = torch.tensor([0, 1])
    torch.testing.assert_close(student.features(teacher.vectors(tokens), labels),
                               student.features(tokens, labels))
    sampled = teacher.sample(labels, 1.5, noise=torch.rand(2, 16))
    assert sampled.shape == (2, 16)


def test_the_error_of_the_fit_is_the_sum_over_all_codes_over_their_number():
    table = tiny.teacher("table").transformer
    model = with_mlp_input(table, 24, 2).backbone
    by_hand = sum((model.code_input(c) - e).square().sum().item()
                  for c, e in zip(model.codebook, table.backbone.table(), strict=True))
    error = fit_error(model.code_input, model.codebook, table.backbone.table())
    assert error.item() == pytest.approx(by_hand / 32, rel=1e-5)


@pytest.mark.parametrize("teacher", [tiny.teacher("codes"), tiny_var.teacher()])
def test_a_teacher_that_takes_vectors_is_refused(teacher):
    with pytest.raises(DD2Error, match=r"leave the stage adapt out \(adapt.steps=0\)"):
        with_mlp_input(teacher.transformer, 8, 1)


def test_an_mlp_without_hidden_layers_is_refused():
    with pytest.raises(DD2Error, match="input_hidden=0"):
        with_mlp_input(tiny.teacher("table").transformer, 0, 1)


# The command -------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run up to the adapted teacher."""
    out = tmp_path_factory.mktemp("adapt")
    for stage in ("tokenizer", "teacher", "adapt"):
        assert grey(stage, out, *TABLE) is None
    return out


@pytest.mark.parametrize("stage, lines", [("adapt_fit", 0), ("adapt", 4)])
def test_resume_is_the_uninterrupted_run(stage, lines, run, tmp_path):
    out = copy_stages(run, tmp_path, "tokenizer", "teacher", "tokens")
    if stage == "adapt":
        copy_stages(run, out, "adapt_fit")
    with stops_at(4):
        assert "the same command again resumes" in grey("adapt", out, *TABLE)
    assert log_steps(out / stage) == [1, 2, 3, 4]
    assert load_state(out / stage / "state.pt")["step"] == 3
    torch.manual_seed(99)
    assert grey("adapt", out, *TABLE) is None
    for each, name in (("adapt_fit", "input"), ("adapt", "teacher")):
        assert same_state(out / each, run / each)
        file = f"{each}/{name}.safetensors"
        assert (out / file).read_bytes() == (run / file).read_bytes()


def test_an_adaptation_that_is_back_ends_and_stays_ended(run, tmp_path):
    out = copy_stages(run, tmp_path, "tokenizer", "teacher", "tokens", "adapt_fit")
    for _ in range(2):
        assert grey("adapt", out, *TABLE, "adapt.check_every=2", "adapt.tolerance=9") is None
        assert log_steps(out / "adapt") == [1, 2]
        assert load_state(out / "adapt" / "state.pt")["step"] == 2
        said = read_json(out / "adapt" / "result.json")
        assert said["steps"] == 2 and said["back"]


def test_the_stages_after_it_distil_the_adapted_teacher_and_base_takes_it(run, tmp_path):
    out = copy_stages(run, tmp_path, "tokenizer", "teacher", "tokens", "adapt_fit", "adapt")
    few = ("gts.steps=2", "csd.steps=2", "csd.start=gts", "csd.pair_share=0", "csd.average=null")
    for stage in ("gts", "csd", "export"):
        assert grey(stage, out, *TABLE, *few) is None
    made = read_json(out / "gts" / "origin.json")["files"]
    assert "adapt/teacher.safetensors" in made and "teacher/teacher.safetensors" not in made
    exported = load_teacher(out / "model", CPU).transformer
    stored = read_tensors(out / "adapt" / "teacher.safetensors")
    for k, a in exported.state_dict().items():
        torch.testing.assert_close(a, stored[k].half().float())
    assert grey("gts", tmp_path / "other", f"base={out / 'adapt'}", "gts.steps=1") is None
    # Another adaptation: what was built on the first is refused.
    shutil.rmtree(out / "adapt")
    assert grey("adapt", out, *TABLE, "adapt.lr=3e-4") is None
    assert "another adapt/teacher.safetensors" in grey("csd", out, *TABLE, *few)


def test_stages_before_the_adaptation_is_there_say_so(run, tmp_path):
    out = copy_stages(run, tmp_path, "tokenizer", "teacher", "tokens")
    assert "run train.adapt first" in grey("gts", out, *TABLE)


def test_without_steps_the_stage_does_nothing(tmp_path):
    assert cli("adapt", "preset=tiny", f"out={tmp_path / 'x'}") is None
    assert not (tmp_path / "x").exists()
