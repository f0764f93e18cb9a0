"""The whole road in seconds: pictures in, every stage, a model folder out, measured."""

import json
import multiprocessing
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dd2core import load_pipeline
from dd2core.store.files import read_tensors
from dd2core.tools.images import to_float
from tests.support.forked import alone
from tests.support.train_helpers import PICTURES, cli, grey, log_steps, snapshot
from train.data.source import load_data
from train.engine import launch
from train.evaluate import SAMPLERS
from train.measure.quality.extractors import load_extractors
from train.settings.cli import ROOT, load_config
from train.settings.stages import TRAINED as STAGES

RGB = ("preset=tiny", f"data={PICTURES}", "image_size=32", "channels=3")


def call(args: list[str], environment: dict[str, str]) -> int:
    """In place of `launch.call`: the imports of a stage are paid for already."""
    stopped = cli(args[2].removeprefix("train."), *args[3:])
    if isinstance(stopped, str):
        print(stopped, file=sys.stderr)
    return 1 if stopped else 0


def call_apart(args: list[str], environment: dict[str, str]) -> int:
    """The same, in a process of its own, which says its words where this one does."""
    sys.stdout.flush(), sys.stderr.flush()
    stage = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(call(args, environment)))
    stage.start()
    stage.join()
    return stage.exitcode


@pytest.fixture
def in_process(monkeypatch):
    """`train.all` runs its stages in this process."""
    monkeypatch.setattr("train.engine.launch.call", call)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The run folder of `python -m train.all` on RGB pictures, and what it and its stages said."""
    out, said = tmp_path_factory.mktemp("rgb") / "run", tmp_path_factory.mktemp("said") / "all"

    def command():
        launch.call = call_apart
        raise SystemExit(cli("all", *RGB, f"out={out}"))

    with alone(said, command) as process:
        process.join()
        assert process.exitcode == 0, said.read_text()
    return out, said.read_text()


def undated(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without the times in the provenance of what is measured again."""
    return {k: re.sub(rb'"date": "[^"]+"', b"", a) for k, a in snapshot(folder).items()}


def evaluate(out: Path, *words: str) -> dict:
    """`python -m train.evaluate` on a run; what it wrote."""
    assert cli("evaluate", *RGB, f"out={out}", *words) is None
    tag = next(w.partition("=")[2] for w in reversed(words) if w.startswith(("tag=", "sampler=")))
    assert (out / "evaluate" / f"{tag}.png").stat().st_size > 100
    return json.loads((out / "evaluate" / f"{tag}.json").read_text())


# One command ----------------------------------------------------------------------------------

def test_one_command_runs_every_stage(finished):
    out, said = finished
    assert "Traceback" not in said
    for stage in STAGES:
        assert log_steps(out / stage) == [1, 2, 3, 4, 5, 6], stage
        assert json.loads((out / stage / "result.json").read_text())
        assert (out / stage / "config.yaml").is_file()
        assert f"all: {stage} took" in said
    measured = {p.stem for p in (out / "evaluate").glob("*.json")}
    assert {"tokenizer", "teacher", "one_step"} <= measured


def test_the_exported_folder_paints(finished):
    folder = finished[0] / "model"
    pipe = load_pipeline(str(folder), "cpu")
    assert pipe.class_names == ["cross", "disc", "frame"] and pipe.image_size == 32
    one, ar = pipe.sample_one_step([0, 1, 2, 0], seed=1), pipe.sample_teacher([0, 1, 2, 0], seed=1)
    for s in (one, ar):
        assert s.images.shape == (4, 32, 32, 3) and s.images.dtype == np.uint8
        assert s.tokens.shape == (4, 64) and s.images.std() > 0
    assert (one.passes, ar.passes) == (1, 64)
    assert not torch.equal(one.tokens, ar.tokens)


def test_the_exported_folder_is_what_was_trained(finished):
    out, folder = finished[0], finished[0] / "model"
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files - {"manifest.json"} == set(manifest)
    for stage in STAGES:
        assert (folder / "logs" / f"{stage}.jsonl").read_bytes() == (
            out / stage / "log.jsonl").read_bytes()
    trained = read_tensors(out / "tune" / "generator.safetensors")
    stored = read_tensors(folder / "generator.safetensors")
    assert trained.keys() == stored.keys()
    assert all(torch.equal(a, stored[k]) for k, a in trained.items())
    assert (folder / "classifier.safetensors").read_bytes() == (
        out / "classifier" / "classifier.safetensors").read_bytes()


def test_csd_keeps_the_mean_of_the_snapshots_it_is_told_to_average(finished):
    csd = finished[0] / "csd"
    kept = read_tensors(csd / "generator.safetensors")
    a, b, early = (read_tensors(csd / f"generator-{i:06d}.safetensors") for i in (4, 6, 2))
    for k, v in kept.items():
        torch.testing.assert_close(v.float(), (a[k].float() + b[k].float()) / 2, atol=1e-3,
                                   rtol=1e-3)
    assert any(not torch.equal(early[k], v) for k, v in kept.items())


def test_the_reference_statistics_are_the_test_pictures(finished):
    folder = finished[0] / "model"
    model = load_extractors(folder, torch.device("cpu")).classifier
    x = model.features(to_float(load_data(load_config(list(RGB))).test_images)).double().numpy()
    saved = np.load(folder / "reference.npz")
    assert int(saved["n"]) == len(x) == 6
    np.testing.assert_allclose(saved["mu"], x.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(saved["sigma"], np.cov(x.T), rtol=1e-2, atol=1e-6)


def test_the_same_command_again_changes_nothing_and_says_so(finished, in_process, capsys):
    out, _ = finished

    def trained():
        clock = ("evaluate/", "model/results", "model/reference", "model/manifest",
                 "model/README")  # the card shows the results so far
        return {k: v for k, v in undated(out).items() if not k.startswith(clock)}

    before = trained()
    assert cli("all", *RGB, f"out={out}") is None
    assert trained() == before
    said = capsys.readouterr().out
    assert said.count("all 6 steps are done already") == len(STAGES)


def test_an_interrupted_run_carries_on(finished, in_process, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    for name in ("gts", "csd", "model", "evaluate"):
        shutil.rmtree(out / name)
    before = undated(out)
    assert cli("all", *RGB, f"out={out}") is None
    after = undated(out)
    assert {k for k in before if after[k] != before[k]} <= {f"{s}/config.yaml" for s in STAGES}
    score = "gts/generator.safetensors"
    assert after[score] == (finished[0] / score).read_bytes()
    generator = "csd/generator.safetensors"
    assert after[generator] == (finished[0] / generator).read_bytes()


def test_grey_pictures_too(in_process, tmp_path):
    assert grey("all", tmp_path / "run", "image_size=28", "skip=evaluate") is None
    assert not (tmp_path / "run" / "evaluate").exists()
    pipe = load_pipeline(str(tmp_path / "run" / "model"), "cpu")
    s = pipe.sample_one_step([2, 1])
    assert s.images.shape == (2, 28, 28, 1) and s.tokens.shape == (2, 49)


def test_one_kind_of_picture_is_enough(in_process, tmp_path):
    shutil.copytree(PICTURES / "disc", tmp_path / "data" / "disc")
    shutil.copytree(PICTURES / "cross", tmp_path / "data" / "disc", dirs_exist_ok=True)
    for i, path in enumerate(sorted((PICTURES / "frame").iterdir())):
        shutil.copy(path, tmp_path / "data" / "disc" / f"more-{i}.png")
    words = [f"data={tmp_path / 'data'}", "sampling.cfg=1"]
    assert grey("all", tmp_path / "run", *words) is None
    result = json.loads((tmp_path / "run" / "evaluate" / "one_step.json").read_text())
    assert result["accuracy"] == 1  # of one class
    assert load_pipeline(str(tmp_path / "run" / "model"), "cpu").class_names == ["disc"]


def test_all_stops_at_the_first_stage_that_fails(in_process, tmp_path, capsys):
    assert grey("all", tmp_path / "run", "teacher.heads=3") == 1
    assert "teacher.heads=3" in capsys.readouterr().err
    assert (tmp_path / "run" / "classifier").exists()
    assert not (tmp_path / "run" / "gts").exists()
    assert "skip=dinner names an unknown stage" in grey("all", tmp_path / "run", "skip=dinner")


# Mistakes -------------------------------------------------------------------------------------

def test_a_missing_stage_is_one_sentence_on_stderr(finished, tmp_path):
    for stage in ("tokenizer", "teacher", "tokens"):
        shutil.copytree(finished[0] / stage, tmp_path / stage)
    before = snapshot(tmp_path)
    done = subprocess.run([sys.executable, "-m", "train.csd", *RGB, f"out={tmp_path}"], cwd=ROOT,
                          capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if not line.startswith("data: ")]
    assert done.returncode == 1 and not said and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "warm/generator.safetensors is missing" in done.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("stage", ["teacher", "gts", "warm", "csd", "tune", "dd1", "export"])
def test_every_stage_asks_for_the_ones_before_it(stage, tmp_path):
    stopped = grey(stage, tmp_path / "run")
    missing = tmp_path / "run" / "tokenizer" / "tokenizer.safetensors"
    assert stopped == f"error: {missing} is missing: train that stage first or copy the file."
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*/*.safetensors"))


def test_evaluate_asks_for_a_model(tmp_path):
    stopped = grey("evaluate", tmp_path / "run")
    assert stopped.startswith("error: There is no model ") and "name a shipped preset" in stopped
    assert "\n" not in stopped and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["sampler=magic"], "use one of teacher, one_step"), (["n=1"], "n=1"), (["batch=0"], "batch"),
    (["model=/nowhere"], "/nowhere"), (["weights=/nowhere.safetensors"], "/nowhere.safetensors"),
    (["sampler=refine", "start=65"], "start=65"), (["sampler=teacher", "top_p=0"], "top_p"),
    (["seed=-1"], "seed=-1"), (["evaluate.seed=-1"], "seed=-1"),
    (["sampler=teacher", "temperature=-1"], "temperature"),
    (["sampler=parallel", "cfg=nan"], "cfg"), (["split=magic"], "split=magic is unknown"),
    (["sampler=dd1_two_steps"], "give weights=RUN/dd1/generator.safetensors"),
    (["sampler=teacher", "ppl=5"], "add sampler=one_step"), (["quantile=1"], "quantile"),
])
def test_mistakes_of_evaluate_are_one_sentence(finished, words, says):
    before = snapshot(finished[0] / "evaluate")
    stopped = cli("evaluate", *RGB, f"out={finished[0]}", *words)
    assert stopped.startswith("error: ") and says in stopped and "\n" not in stopped
    assert snapshot(finished[0] / "evaluate") == before


# Measuring ------------------------------------------------------------------------------------

@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_measured(finished, sampler):
    start = ["start=60"] if sampler == "refine" else []
    own = [f"weights={finished[0]}/tune/generator.safetensors"] * (sampler == "dd1_two_steps")
    r = evaluate(finished[0], f"sampler={sampler}", "n=10", "batch=4", "cfg=2", "tag=t", *start,
                 *own)
    assert r["sampler"] == sampler and r["estimate"] is True
    assert r["n"] == {"tokenizer": 6, "train_set": 54}.get(sampler, 10)
    assert r["teacher_settings"] == {"cfg": 2, "temperature": 1, "top_k": 0, "top_p": 1}
    assert "classifier.safetensors" in r["extractor"] and r["reference"] == "6 test images"
    assert r["command"].startswith("python -m train.evaluate preset=tiny data=")
    assert f"sampler={sampler}" in r["command"] and "n=10" in r["command"]
    passes = {"teacher": 64, "refine": 5, "one_step": 1, "parallel": 1, "skip_last": 62,
              "euler": 64, "dd1_two_steps": 2}
    assert r["passes"] == passes.get(sampler, 0) and r.get("start") == (60 if start else None)
    assert r["fd"] > 0 and 0 <= r["precision"] <= 1 and 0 <= r["recall"] <= 1
    assert r["fd_percent"] > 0 and 0 <= r["accuracy"] <= 1
    assert 0 < r["token_entropy"] <= np.log(128) + 1e-6 and r["teacher_nll"] > 0
    assert ("fcs_floor" in r) == (sampler == "teacher")


def test_measuring_twice_gives_the_same(finished):
    a, b, c = (evaluate(finished[0], "sampler=one_step", f"tag={tag}", f"seed={seed}")
               for tag, seed in (("a", 0), ("b", 0), ("c", 1)))
    clock = {"seconds", "decode_seconds", "command", "tag", "note", "provenance"}
    same = [k for k in a.keys() - clock if a[k] == b[k]]
    assert set(same) == a.keys() - clock
    assert (a["seed"], c["seed"]) == (0, 1) and a["fd"] != c["fd"]


def test_a_judge_is_exported_and_measures_the_same_images(finished, tmp_path):
    """And path length, neighbours and the part to choose by are asked for by a word each."""
    run, model = tmp_path / "run", tmp_path / "model"
    for stage in ("classifier", "tokenizer", "tokens", "teacher", "gts", "warm", "csd", "tune"):
        shutil.copytree(finished[0] / stage, run / stage)
    judge = ("classifier.name=judge", "classifier.arch=residual", "seed=1")
    assert cli("classifier", *RGB, f"out={run}", *judge) is None
    assert cli("export", *RGB, f"out={run}", f"export={model}") is None
    told = json.loads((model / "judge.json").read_text())
    assert told["classifier"]["arch"] == "residual" and told["seed"] == 1
    assert int(np.load(model / "judge-reference.npz")["n"]) == 6
    assert {"judge.safetensors", "judge.json"} <= set(
        json.loads((model / "manifest.json").read_text()))
    words = ("sampler=one_step", f"model={model}", f"results={tmp_path}", "n=12")
    assert cli("evaluate", *RGB, f"out={run}", *words, "tag=both", "ppl=5", "neighbours=12") is None
    both = json.loads((tmp_path / "both.json").read_text())
    alone = evaluate(finished[0], "sampler=one_step", "n=12", "tag=alone")
    assert both["fd"] == alone["fd"] != both["judge"]["fd"] and "judge" not in alone
    assert both["path_length"]["n"] == 5 and both["path_length"]["judge_filtered"] > 0
    assert (both["neighbours"]["n"], both["neighbours"]["train"]) == (12, 54)
    assert (tmp_path / "both-neighbours.png").is_file() and not (tmp_path / "both.png").exists()
    words = (*words, "tag=chosen", "split=validation")
    assert cli("evaluate", *RGB, f"out={run}", *words) is None
    chosen = json.loads((tmp_path / "chosen.json").read_text())
    assert (chosen["split"], both["split"]) == ("validation", "test")
    assert chosen["reference"] == "6 training images set apart" and chosen["fd"] != both["fd"]


def test_refine_from_the_last_step_on_is_one_step(finished):
    one = evaluate(finished[0], "sampler=one_step")
    same = evaluate(finished[0], "sampler=refine", "start=64")
    assert (same["fd"], same["passes"]) == (one["fd"], 1)


def test_dd1_is_trained_and_measured_as_the_generator(finished):
    out, _ = finished
    one = evaluate(out, "sampler=one_step")
    assert cli("dd1", *RGB, f"out={out}", "dd1.name=dd1-lr3", "dd1.lr=3e-3") is None
    weights = out / "dd1-lr3" / "generator.safetensors"
    cost = json.loads((out / "dd1-lr3" / "result.json").read_text())
    assert cost["pairs"] == 12 and cost["pair_seconds"] > 0
    dd1 = evaluate(out, "sampler=one_step", f"weights={weights}", "tag=dd1")
    assert dd1["fd"] != one["fd"] and dd1["passes"] == 1
    back = evaluate(out, "sampler=one_step", f"weights={out / 'tune' / 'generator.safetensors'}",
                    "tag=again")
    assert back["fd"] == one["fd"]


def test_dd1_is_trained_for_two_steps_and_measured_with_them(finished):
    out, _ = finished
    words = ("dd1.name=dd1-two", "dd1.second_share=0.5")
    assert cli("dd1", *RGB, f"out={out}", *words) is None
    weights = f"weights={out / 'dd1-two' / 'generator.safetensors'}"
    one = evaluate(out, "sampler=one_step", "method=dd1", weights, "tag=dd1-one")
    two, late = (evaluate(out, "sampler=dd1_two_steps", weights, f"tag={tag}", *more)
                 for tag, *more in (("half",), ("late", "dd1.second_start=63")))
    assert (one["passes"], two["passes"], late["passes"]) == (1, 2, 2)
    assert two["fd"] not in (one["fd"], late["fd"])  # one token of 64 may be the same again
    assert (two["method"], two["table"]) == ("dd1_two_steps", "quality")
    assert two["training_minutes"] > 0 and two["training_minutes"] == one["training_minutes"]
    stopped = cli("evaluate", *RGB, f"out={out}", "sampler=dd1_two_steps", weights,
                  "dd1.second_start=64")
    assert stopped.startswith("error: second_start=64 must lie in 1…63")
