"""Every stage with the VAR family, by the same commands: pictures in, a model folder out."""

import json
from pathlib import Path

import pytest
import torch

from dd2core import load_pipeline
from dd2core.errors import DD2Error
from dd2core.families.var.teacher import VARTeacher
from dd2core.store.files import read_tensors
from tests.support.train_helpers import config, copy_stages, grey, kept_tokens, log_steps
from train.engine.assemble import new_tokenizer, new_transformer
from train.settings.cli import load_config

WORDS = ("family=var", "tokenizer.patch_nums=[1,2,4]", "tune.steps=0", "sampling.cfg=1.0")
STAGES = ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "dd1", "export")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The run folder of all stages on grey pictures."""
    out = tmp_path_factory.mktemp("var") / "run"
    for stage in STAGES:
        assert grey(stage, out, *WORDS) is None, stage
    return out


def test_every_stage_runs(finished):
    for stage in STAGES[:-1]:
        assert log_steps(finished / stage) == [1, 2, 3, 4, 5, 6], stage


def test_tokens_are_those_of_all_scales(finished):
    tokens = kept_tokens(finished)["tokens"]
    assert tokens.shape[1] == 21 and tokens.max() < 128


def test_the_exported_folder_paints(finished):
    pipe = load_pipeline(str(finished / "model"), "cpu")
    assert isinstance(pipe.teacher, VARTeacher)
    one, ar = pipe.sample_one_step([0, 1, 2, 0], seed=1), pipe.sample_teacher([0, 1, 2, 0], seed=1)
    for s in (one, ar):
        assert s.images.shape == (4, 16, 16, 1) and s.tokens.shape == (4, 21)
    assert (one.passes, ar.passes) == (1, 3)
    assert not torch.equal(one.tokens, ar.tokens)


@pytest.mark.parametrize("sampler", ["teacher", "one_step", "refine", "parallel", "tokenizer"])
def test_it_is_measured(sampler, finished):
    assert grey("evaluate", finished, *WORDS, f"sampler={sampler}", "start=1", "n=6") is None
    found = json.loads((finished / "evaluate" / f"{sampler}.json").read_text())
    assert found["n"] == 6 and found["passes"] == {"teacher": 3, "refine": 3, "tokenizer": 0}.get(
        sampler, 1)
    assert found["teacher_nll"] > 0


def test_dd1_is_trained_for_two_steps_and_measured_with_them(finished):
    words = (*WORDS, "dd1.name=two", "dd1.second_share=0.5", "dd1.second_start=2")
    assert grey("dd1", finished, *words) is None
    measured = (*words, "n=6", f"weights={finished / 'two' / 'generator.safetensors'}")
    for sampler in ("one_step", "dd1_two_steps"):
        assert grey("evaluate", finished, *measured, f"sampler={sampler}",
                    f"tag={sampler}-d") is None
    one, two = (json.loads((finished / "evaluate" / f"{sampler}-d.json").read_text())
                for sampler in ("one_step", "dd1_two_steps"))
    assert (one["passes"], two["passes"]) == (1, 2) and one["fd"] != two["fd"]


def test_a_shallower_generator_is_distilled_from_the_same_gts(finished, tmp_path):
    out, words = tmp_path / "run", (*WORDS, "head.generator_depth=1", "csd.adversarial=1")
    copy_stages(finished, out, "tokenizer", "classifier", "teacher", "tokens", "gts")
    for stage in ("gts", "warm", "csd", "export"):  # gts is done: it is not the generator's
        assert grey(stage, out, *words) is None, stage
    pipe = load_pipeline(str(out / "model"), "cpu")
    assert [len(m.backbone.blocks) for m in (pipe.generator, pipe.guidance)] == [1, 2]
    assert pipe.sample_one_step([0, 1], seed=1).images.shape == (2, 16, 16, 1)
    assert "head.generator_depth=1 (now None)" in grey("warm", out, *WORDS)


def test_the_stages_share_one_pyramid(finished):
    """φ is trained and saved by the tokenizer; what is distilled uses it unchanged."""
    saved = read_tensors(finished / "tokenizer" / "tokenizer.safetensors")
    pipe = load_pipeline(str(finished / "model"), "cpu")
    for model in (pipe.teacher.transformer.backbone, pipe.generator.backbone,
                  pipe.guidance.backbone):
        torch.testing.assert_close(model.pyramid.weight, saved["pyramid.weight"].float())
        torch.testing.assert_close(model.codes, saved["embedding"].float())
    assert not any("pyramid" in k for k in read_tensors(finished / "csd" / "generator.safetensors"))


def test_the_shipped_preset_has_104_tokens_in_6_steps_and_fits():
    cfg = load_config(["preset=fashion-var"])
    tokenizer = new_tokenizer(cfg)
    transformer = new_transformer(cfg, tokenizer, 10)
    assert tokenizer.cfg.num_tokens == 104 and len(tokenizer.cfg.patch_nums) == 6
    sizes = [sum(p.numel() for p in m.parameters()) for m in (tokenizer, transformer)]
    assert 2 * (sizes[0] + 3.5 * sizes[1]) < 14e6  # float16: tokenizer, teacher and two scores


@pytest.mark.parametrize(("words", "text"), [
    (["family=pixelcnn"], "family=pixelcnn is unknown: use one of llamagen, var"),
    (["tokenizer.patch_nums=[1,2,3]"], "must be the last of patch_nums"),
])
def test_settings_that_do_not_fit_are_one_sentence(words, text):
    with pytest.raises(DD2Error, match=text):
        new_tokenizer(config(*WORDS, *words))


def test_a_dry_run_needs_no_stage_before_it(tmp_path, capsys):
    assert grey("csd", tmp_path / "run", *WORDS, "dry_run=true") is None
    assert "csd: dry run, nothing written" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
