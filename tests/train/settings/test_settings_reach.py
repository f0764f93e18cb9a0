"""Settings that once were lost on their way: under pairs, a resume, a dry run, other folders."""

import dataclasses
import inspect

import pytest
import torch

import train.export
from dd2core.errors import DD2Error
from dd2core.gts import GTS_TARGETS, ScoreOptions, gts_step_loss
from dd2core.noise import WHOLE
from dd2core.sampling import Sampling
from dd2core.schedule import LOSS_WEIGHTS
from dd2core.store import names
from tests.support import tiny
from tests.support.train_helpers import config, same_threads
from tests.train.settings.toy_stages import counted, job, tokens, toy
from train import evaluate, fullsize
from train.dd1 import load_pairs
from train.engine.origin import _settings, differences
from train.engine.paths import first_weights
from train.engine.run_folder import Run
from train.measure import agreement
from train.measure.counting import steps
from train.measure.quality.extractors import Extractors
from train.settings.help import shown
from train.settings.ranges import IDLE
from train.settings.schema import Config


def made(stage: str, tmp_path, **changes):
    """The toy job of a stage, and its settings."""
    cfg = toy({k.replace("__", "."): v for k, v in changes.items()}, tmp_path)
    with counted():
        torch.manual_seed(0)
        return job(stage, cfg), cfg


@pytest.mark.parametrize("stage", ["csd", "tune"])
def test_a_share_of_pairs_that_is_no_image_is_one_sentence(stage, tmp_path):
    with pytest.raises(DD2Error, match=r"pair_share=0\.1 of batch=4 is no image: raise either"):
        made(stage, tmp_path, **{f"{stage}__pair_share": 0.1})


def test_a_dry_run_makes_pairs_for_its_one_step_alone(tmp_path):
    j, cfg = made("csd", tmp_path, csd__pair_share=0.5, warm__euler_steps=2, dry_run=True)
    assert len(j.pair_eps) == len(j.pairs["tokens"]) == cfg.csd.batch < cfg.warm.pairs
    assert not (tmp_path / names.PAIRS).exists() and j.step(0)["right_tokens"] >= 0


def test_pairs_of_another_precision_are_made_anew(tmp_path):
    cfg, teacher = toy({"warm.euler_steps": 2}, tmp_path), tiny.teacher(depth=1)
    files = []
    for bf16 in (False, True, False):
        load_pairs(cfg, teacher, tokens(cfg), dataclasses.replace(cfg.warm, bf16=bf16))
        files.append(len(list((tmp_path / names.PAIRS).glob("*.safetensors"))))
    assert files == [1, 2, 2]


@pytest.mark.parametrize("stage", ["gts", "csd"])
def test_a_run_that_goes_on_with_other_settings_has_them_in_its_optimisers(stage, tmp_path):
    before, cfg = made(stage, tmp_path)
    with counted():
        before.step(0)
    Run(cfg, stage).save(before, 1, 0.0)
    other = {f"{stage}__beta1": 0.3, f"{stage}__beta2": 0.7, f"{stage}__weight_decay": 0.25}
    after, cfg = made(stage, tmp_path, resume="anyway", **other)
    assert Run(cfg, stage).resume(after) == (1, 0.0)
    for name, optimizer in after.optimizers.items():
        matrices, vectors = optimizer.param_groups
        assert matrices["betas"] == vectors["betas"] == (0.3, 0.7)
        assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.25, 0)
        state = before.optimizers[name].state_dict()["state"]  # the moments are those of the run
        assert all(torch.equal(a["exp_avg"], state[i]["exp_avg"])
                   for i, a in optimizer.state_dict()["state"].items())


@pytest.mark.parametrize("stage", ["tokenizer", "classifier"])
def test_a_stage_that_learns_from_pictures_knows_how_they_became_squares(stage):
    was, now = ({"settings": _settings(config(*words), stage), "files": {}}
                for words in ((), ("tokens.transform=adm",)))
    assert differences(was, now) == ["tokens.transform=square (now adm)"]
    old = {**was, "settings": {k: v for k, v in was["settings"].items() if k != "tokens"}}
    assert differences(old, was) == []  # of a run from before it was noted


@pytest.mark.parametrize("target", GTS_TARGETS)
def test_the_plan_of_gts_is_of_the_target_that_is_asked_for(target, monkeypatch):
    seen, asked = [], inspect.signature(gts_step_loss)
    monkeypatch.setattr(steps, "gts_step_loss", lambda *a: (
        seen.append(asked.bind(*a).arguments["target"]) or torch.zeros((), requires_grad=True)))
    o = config(f"gts.target={target}", "gts.head_steps=1").gts
    step = steps.gts_step(o, tiny.teacher(depth=1), [torch.nn.Linear(1, 1)])
    step(2, WHOLE.split(2), lambda work: None)
    assert seen == [target] * 4  # two passes with the head alone, two with all


@pytest.mark.parametrize("prefix, is_vectors", [("quantised", False), ("continuous", True)])
def test_the_sample_grid_shows_psi_under_the_prefix_that_it_learns(
        prefix, is_vectors, tmp_path, monkeypatch):
    j, _ = made("csd", tmp_path, csd__prefix=prefix)
    seen, psi = [], j.trainer.guidance
    features = psi.features
    monkeypatch.setattr(psi, "features", lambda prefix, labels: (
        seen.append(prefix.is_floating_point()) or features(prefix, labels)))
    assert j.grid().ndim == 3 and seen == [is_vectors]


def test_the_floor_of_fcs_is_in_the_units_of_its_loss(monkeypatch):
    teacher, labels = tiny.teacher(depth=1), torch.arange(60) % 3
    found, x = {}, teacher.sample(labels)
    for name in LOSS_WEIGHTS:
        torch.manual_seed(0)
        found[name] = agreement.posterior_floor(teacher, x, labels, ScoreOptions(
            1, 0.5, 0.5, weighting=name))
    weight = [of(torch.tensor(0.5)).item() for of in LOSS_WEIGHTS.values()]
    a, b = found.values()
    assert b / a == pytest.approx(weight[1] / weight[0], rel=1e-4) and weight[0] != weight[1]


def test_evaluate_measures_the_floor_under_the_options_of_csd(monkeypatch, tiny_pipe):
    cfg, seen = config("evaluate.sampler=teacher", "csd.times=3", "csd.t_min=0.2", "csd.t_max=0.7",
                       "csd.chunk=9", "csd.weighting=velocity", "evaluate.top_k=5"), []
    images, labels = torch.zeros(4, 1, 16, 16), torch.zeros(4, dtype=torch.int64)
    monkeypatch.setattr(evaluate, "sample", lambda *a: (images, labels, labels, labels, {}))
    for name in ("numbers_of", "reference_name"):
        monkeypatch.setattr(evaluate, name, lambda *a: {})
    monkeypatch.setattr(evaluate, "_result", lambda *a: agreement.Agreement(0.0, 0.0))
    monkeypatch.setattr(evaluate, "posterior_floor", lambda *a: seen.append(a[-1]))
    with pytest.raises(TypeError):  # of `replace`: the stand-in has no floor
        evaluate.measure(cfg, tiny_pipe, Extractors(None, None), None)
    assert seen == [ScoreOptions(3, 0.2, 0.7, Sampling(2.0, top_k=5), 9, weighting="velocity")]


def test_what_a_warm_start_of_another_name_took_is_exported(monkeypatch, tmp_path):
    cfg = config("warm.name=longer", f"out={tmp_path / 'run'}")
    for stage in ("warm", "longer"):
        folder = tmp_path / "run" / stage
        folder.mkdir(parents=True)
        (folder / names.SETTINGS).write_text(f"of: {stage}\n")
    for name in ("check_made_of_present", "load_teacher", "class_names", "save_folder",
                 "write_card", "_copy_results"):
        monkeypatch.setattr(train.export, name, lambda *a, **k: [])
    monkeypatch.setattr(train.export, "_classifier", lambda *a: {})
    train.export.export(cfg, tmp_path / "model")
    assert (tmp_path / "model" / names.LOGS / "warm.yaml").read_text() == "of: longer\n"
    assert first_weights(cfg, "warm")[0].parent == tmp_path / "run" / "longer"


def test_the_classifiers_name_is_that_of_its_file(tmp_path):
    j, _ = made("classifier", tmp_path, classifier__name="judge")
    (tmp_path / "judge").mkdir()
    j.finish(tmp_path / "judge")
    assert (tmp_path / "judge" / names.weights("judge")).is_file()


def test_real_steps_of_the_full_size_run_on_the_threads_that_are_asked_for(monkeypatch):
    seen, n = [], torch.get_num_threads() + 1
    monkeypatch.setattr(fullsize, "print_steps", lambda *a: seen.append(torch.get_num_threads()))
    with same_threads():
        fullsize.run(fullsize.FullSize(model="tiny", training="gts", threads=n))
    assert seen == [n]


def test_what_would_change_nothing_is_not_refused_at_its_default():
    usual = Config()
    values = {key: getattr(getattr(usual, key.split(".")[0]), key.split(".")[1]) for key in IDLE}
    assert isinstance(config(*(f"{key}={shown(value)}" for key, value in values.items())), Config)
