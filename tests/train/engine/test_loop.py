"""The loop of every stage: resume = uninterrupted, what stops it, what it leaves (kill -9:
`test_kill.py`)."""

import contextlib
import dataclasses
import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.store.files import read_tensors, write_tensors
from dd2core.store.state import load_state
from tests.support.train_helpers import (
    cli,
    config,
    copy_stages,
    grey,
    log_steps,
    same_state,
    same_tree,
    snapshot,
    without_seconds,
)
from train.engine import loop, optim
from train.settings.schema import Stage

STAGES = ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "dd1")
WEIGHTS = {**dict.fromkeys(STAGES, "generator"), "tokenizer": "tokenizer",
           "classifier": "classifier", "teacher": "teacher"}
BEFORE = {"tokenizer": (), "classifier": (), "teacher": ("tokenizer",),
          "gts": ("tokenizer", "teacher"), "warm": ("tokenizer", "teacher", "gts"),
          "csd": ("tokenizer", "teacher", "gts", "warm"), "dd1": ("tokenizer", "teacher", "gts")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """A run of all stages, six steps each, never stopped."""
    out = tmp_path_factory.mktemp("uninterrupted")
    for stage in STAGES:
        assert grey(stage, out) is None
    return out


@contextlib.contextmanager
def stops_at(step: int):
    """As if the user had pressed Ctrl-C in this step of any stage."""
    with pytest.MonkeyPatch.context() as patch:
        whole = loop.seeded_step

        def seeded_step(cfg, job, i, stage):
            if i == step:
                raise KeyboardInterrupt
            return whole(cfg, job, i, stage)

        patch.setattr(loop, "seeded_step", seeded_step)
        yield


# Resume ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("stage", STAGES)
def test_resume_is_the_uninterrupted_run(stage, uninterrupted, tmp_path):
    out = copy_stages(uninterrupted, tmp_path, *BEFORE[stage])
    with stops_at(4):  # states are saved every three steps, the log has four lines
        assert "the same command again resumes" in grey(stage, out)
    assert load_state(out / stage / "state.pt")["step"] == 3
    assert log_steps(out / stage) == [1, 2, 3, 4]
    torch.manual_seed(99)  # nothing may hang on what the process did before
    assert grey(stage, out) is None
    assert same_state(out / stage, uninterrupted / stage)
    name = f"{WEIGHTS[stage]}.safetensors"
    assert (out / stage / name).read_bytes() == (uninterrupted / stage / name).read_bytes()
    assert without_seconds(out / stage) == without_seconds(uninterrupted / stage)


def test_training_changes_the_weights(uninterrupted, tmp_path):
    """Without this, "equal" above would say nothing."""
    with stops_at(4):
        grey("tokenizer", tmp_path)
    early = load_state(tmp_path / "tokenizer" / "state.pt")["networks"]
    late = load_state(uninterrupted / "tokenizer" / "state.pt")["networks"]
    assert not same_tree(early["model"], late["model"])
    assert not same_tree(early["ema"], late["ema"])
    grey("classifier", tmp_path, "seed=1")
    assert not same_state(tmp_path / "classifier", uninterrupted / "classifier")


def test_a_finished_stage_is_left_as_it_is_and_says_so(uninterrupted, capsys):
    before = snapshot(uninterrupted)
    assert grey("tokenizer", uninterrupted) is None
    assert "all 6 steps are done already" in capsys.readouterr().out
    assert snapshot(uninterrupted) == before


def test_more_steps_carry_on(uninterrupted, tmp_path):
    out = copy_stages(uninterrupted, tmp_path, "tokenizer")
    assert "tokenizer.steps=6 (now 8)" in grey("tokenizer", out, "tokenizer.steps=8")
    assert grey("tokenizer", out, "tokenizer.steps=8", "resume=anyway") is None
    assert log_steps(out / "tokenizer") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert load_state(out / "tokenizer" / "state.pt")["step"] == 8


# What stops it --------------------------------------------------------------------------------

@pytest.fixture
def halfway(tmp_path) -> Path:
    """A tokenizer stage stopped after its third step."""
    with stops_at(3):
        grey("tokenizer", tmp_path)
    return tmp_path


@pytest.mark.parametrize("save_every", [3, 1])
def test_a_loss_that_is_not_finite_names_step_and_preset(halfway, save_every):
    """With save_every=1 the step that ruins the weights would be saved before the loss tells."""
    before = (halfway / "tokenizer" / "state.pt").read_bytes()
    stopped = grey("tokenizer", halfway, "tokenizer.lr=1e38", "resume=anyway",
                   f"tokenizer.save_every={save_every}")
    assert stopped.startswith("error: ") and "not finite" in stopped and "\n" not in stopped
    assert f"step {4 if save_every == 3 else 3} of preset tiny" in stopped
    assert (halfway / "tokenizer" / "state.pt").read_bytes() == before
    assert not (halfway / "tokenizer" / "tokenizer.safetensors").exists()


class NoJob:
    """A stage of one number."""

    networks = {"model": torch.nn.Linear(1, 1)}  # noqa: RUF012


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_every_metric_is_checked(value):
    class Job(NoJob):
        def step(self, i):
            return {"loss": 1.0, "grad": value}

    with pytest.raises(DD2Error, match="grad is not finite at step 7 of preset tiny"):
        loop.seeded_step(config(), Job(), 7, "csd")


def test_every_step_is_seeded_by_itself():
    class Job(NoJob):
        def step(self, i):
            return {"x": torch.rand(()).item()}

    def drawn(i, *words, stage="csd"):
        return loop.seeded_step(config(*words), Job(), i, stage)["x"]

    draws = [drawn(i) for i in (0, 1, 2)]
    assert drawn(1) == draws[1] and len(set(draws)) == 3
    assert drawn(1, "seed=1") not in draws and drawn(1, stage="tune") not in draws


@pytest.mark.parametrize("damage", ["size", "truncated", "empty", "foreign", "text"])
def test_a_state_that_does_not_fit_is_refused_and_kept(halfway, damage):
    state, words = halfway / "tokenizer" / "state.pt", []
    if damage == "size":
        words = ["tokenizer.num_codes=16", "resume=anyway"]
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, state)
    else:
        raw = state.read_bytes()
        broken = {"truncated": raw[: len(raw) // 2], "empty": b"", "text": b"hello"}
        state.write_bytes(broken[damage])
    before = snapshot(halfway)
    stopped = grey("tokenizer", halfway, *words)
    assert stopped.startswith("error: ") and str(state) in stopped and "\n" not in stopped
    assert snapshot(halfway) == before


@pytest.mark.parametrize("word", ["tokenizer.save_every=0", "tokenizer.log_every=0",
                                  "tokenizer.batch=0", "tokenizer.steps=-1",
                                  "tokenizer.revive_every=0", "tokenizer.groups=3",
                                  "tokenizer.res_blocks=[1]", "image_size=18", "threads=-1",
                                  "seed=99999999999"])
def test_an_impossible_setting_is_one_sentence(tmp_path, word):
    stopped = grey("tokenizer", tmp_path, word)
    assert stopped.startswith("error: ") and "\n" not in stopped
    assert word.partition("=")[0].rpartition(".")[2] in stopped
    assert snapshot(tmp_path) == {}


def test_an_unknown_device_is_one_sentence(tmp_path):
    stopped = grey("tokenizer", tmp_path / "x", "device=abacus")
    assert "device=abacus is not on this machine" in stopped and "cpu" in stopped
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("stage", [*STAGES, "all", "export", "evaluate"])
def test_a_dry_run_writes_nothing(stage, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("train.engine.launch.call", lambda args, env: 1 if cli(
        args[2].removeprefix("train."), *args[3:]) else 0)
    stopped = grey(stage, tmp_path / "x", f"export={tmp_path / 'y'}", "dry_run=true")
    assert not list(tmp_path.iterdir())
    if stage in STAGES:
        out = capsys.readouterr().out
        assert stopped is None and "M parameters" in out and "nothing written" in out


def test_a_dry_run_leaves_a_run_as_it_is(uninterrupted, tmp_path):
    out = copy_stages(uninterrupted, tmp_path, *STAGES)
    before = snapshot(out)
    assert [grey(stage, out, "dry_run=true") for stage in STAGES] == [None] * len(STAGES)
    assert snapshot(out) == before


# Beside the weights ---------------------------------------------------------------------------

def test_the_resolved_config_gives_the_same_settings_again(uninterrupted):
    from train.settings.cli import load_config

    path = uninterrupted / "teacher" / "config.yaml"
    expected = config(f"out={uninterrupted}")
    assert dataclasses.asdict(load_config([f"preset={path}"])) == dataclasses.asdict(expected)


def test_dd1_pairs_belong_to_their_settings(uninterrupted, tmp_path):
    """Latents depend on the seed and on the batches they were drawn in: other ones, other pairs."""
    out = copy_stages(uninterrupted, tmp_path, *BEFORE["dd1"], "dd1-pairs")
    for word in ("dd1.pair_batch=6", "seed=1", "dd1.sampling.cfg=2", "dd1.sampling.top_k=3"):
        found = set((out / "dd1-pairs").iterdir())
        assert grey("dd1", out, "dd1.name=again", "dd1.steps=1", word) is None
        assert len(set((out / "dd1-pairs").iterdir()) - found) == 2, word
        shutil.rmtree(out / "again")


def test_another_teacher_has_other_pairs(uninterrupted, tmp_path):
    out = copy_stages(uninterrupted, tmp_path, *BEFORE["dd1"], "dd1-pairs")
    weights = read_tensors(out / "teacher" / "teacher.safetensors")
    write_tensors(out / "teacher" / "teacher.safetensors", {k: 2 * a for k, a in weights.items()})
    found = set((out / "dd1-pairs").iterdir())
    stopped = grey("dd1", out, "dd1.name=again", "dd1.steps=1")
    assert "gts was trained on another teacher/teacher.safetensors" in stopped
    assert grey("dd1", out, "dd1.name=again", "dd1.steps=1", "resume=anyway") is None
    assert len(set((out / "dd1-pairs").iterdir()) - found) == 2


@pytest.mark.parametrize("word", ["csd.form=gan", "csd.start=random"])
def test_an_unknown_choice_lists_the_known(uninterrupted, word):
    stopped = grey("csd", uninterrupted, word)
    assert stopped.startswith(f"error: {word.removeprefix('csd.')} is unknown: use ")


def test_csd_writes_its_grid(uninterrupted):
    from PIL import Image

    image = Image.open(uninterrupted / "csd" / "grid-000006.png")
    assert image.size == (10 * 18 - 2, 3 * 18 - 2)  # rows of G, D_Φ and D_ψ, 16 px + 2 of gap
    assert not list((uninterrupted / "csd").glob("grid-000003.png"))


def test_tokens_are_cached_and_follow_the_tokenizer(uninterrupted, tmp_path):
    out = copy_stages(uninterrupted, tmp_path, "tokenizer", "tokens")
    first = snapshot(out / "tokens")
    assert grey("teacher", out, "teacher.steps=1") is None
    assert snapshot(out / "tokens") == first
    shutil.rmtree(out / "teacher")
    assert grey("tokenizer", out, "tokenizer.steps=8", "resume=anyway") is None
    assert grey("teacher", out, "teacher.steps=1") is None
    assert snapshot(out / "tokens") != first


def test_tensorboard_has_the_log(uninterrupted, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = copy_stages(uninterrupted, tmp_path, "tokenizer", "teacher")
    assert grey("gts", out, "tensorboard=true") is None
    events = EventAccumulator(str(out / "gts" / "tensorboard"))
    events.Reload()
    logged = [json.loads(line) for line in (out / "gts" / "log.jsonl").read_text().splitlines()]
    points = events.Scalars("gts/loss")
    assert [p.step for p in points] == [1, 2, 3, 4, 5, 6]
    assert [p.value for p in points] == pytest.approx([line["loss"] for line in logged], rel=1e-5)


def test_without_tensorboard_the_flag_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    stopped = grey("tokenizer", tmp_path, "tensorboard=true")
    assert stopped.startswith("error: ") and "tensorboard" in stopped


# The learning rate ----------------------------------------------------------------------------

def test_the_schedule_warms_up_and_falls_to_its_end():
    stage = Stage(steps=1000, warmup=50, lr_final=0.05)
    rates = [optim.schedule(i, stage) for i in range(1000)]
    assert rates[0] == pytest.approx(1 / 50, rel=1e-3) and rates[24] == pytest.approx(0.5, rel=1e-2)
    assert max(rates) == rates[49] == pytest.approx(1, abs=0.01)
    assert all(a < b for a, b in itertools.pairwise(rates[:50]))
    assert all(a >= b for a, b in itertools.pairwise(rates[49:]))
    assert rates[500] == pytest.approx(0.525, abs=1e-6)
    assert rates[-1] == pytest.approx(0.05, abs=1e-4)


def test_the_schedule_bears_no_warmup_and_steps_past_the_end():
    assert optim.schedule(0, Stage(steps=10, warmup=0)) == pytest.approx(1)
    assert optim.schedule(99, Stage(steps=10, warmup=0, lr_final=0.2)) == pytest.approx(0.2)


def test_weight_decay_spares_vectors():
    module = torch.nn.Linear(3, 4)
    module.extra = torch.nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    decayed, spared = optim.adam(module, Stage(weight_decay=0.1)).param_groups
    assert decayed["params"] == [module.weight] and decayed["weight_decay"] == 0.1
    assert spared["params"] == [module.bias] and spared["weight_decay"] == 0
