"""`base=`: a finished teacher is distilled as if it were the run's own."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.pipeline import load_pipeline
from dd2core.store.files import (
    read_json,
    read_tensors,
    sha256,
    write_json,
    write_manifest,
    write_tensors,
)
from dd2core.store.folder import describe, load_teacher, save_folder
from dd2core.tools.images import to_float
from tests.support import plain_llamagen as plain
from tests.support import tiny
from tests.support.parity import description, seeded_state
from tests.support.train_helpers import PICTURES, cli, config, grey, kept_tokens, same_tree
from train import all as train_all
from train import convert
from train.data import labels, tokens
from train.data.source import load_data
from train.engine import assemble as build
from train.measure.classifier import Classifier

CPU = torch.device("cpu")
STEPS = ("gts.steps=2", "csd.steps=2", "csd.average=null", "csd.start=gts", "csd.pair_share=0",
         "csd.grid_every=0", "tune.steps=0", "warm.steps=0")
SIZES = {"image_channels": 1, "width": 4, "features": 8, "num_classes": 3}


def make_base(folder, class_names=None, classifier=False, seed=0):
    """A model folder with a random teacher of another depth than the preset's."""
    teacher = tiny.teacher(depth=1, seed=seed)
    model = replace(tiny.model(), teacher=teacher, generator=None, guidance=None,
                    class_names=class_names or ["frame", "disc", "cross"])
    save_folder(folder, model, extra={"classifier": SIZES} if classifier else None)
    if classifier:
        write_tensors(folder / "classifier.safetensors", Classifier(**SIZES).state_dict())
        write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "made", classifier=True)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A run that distils the base, exported."""
    out = tmp_path_factory.mktemp("run") / "run"
    for stage in ("gts", "csd", "export"):
        assert grey(stage, out, f"base={folder}", *STEPS) is None
    return out


def teacher_weights(folder):
    return load_teacher(folder, CPU).state_dict()


# What a run with a base is --------------------------------------------------------------------

def test_the_export_holds_the_bases_teacher_and_a_generator_of_its_size(folder, finished):
    pipe = load_pipeline(str(finished / "model"), "cpu")
    halves = {k: a.half().float() if a.is_floating_point() else a
              for k, a in teacher_weights(folder).items() if k != "codebook"}
    found = {k: a for k, a in teacher_weights(finished / "model").items() if k != "codebook"}
    assert same_tree(found, halves)
    assert len(pipe.generator.backbone.blocks) == 1  # the preset's own teacher has 2
    assert pipe.class_names == ["frame", "disc", "cross"]
    assert pipe.sample_one_step([0, 1]).images.shape == (2, 16, 16, 1)
    assert not (finished / "teacher").exists() and not (finished / "tokenizer").exists()


def test_the_tokens_are_the_bases(folder, finished):
    data, teacher = load_data(config()), load_teacher(folder, CPU)
    kept = kept_tokens(finished)
    for part, images in (("tokens", data.images), ("test_tokens", data.test_images)):
        assert torch.equal(kept[part], teacher.encode(to_float(images)))


def test_labels_follow_the_names_of_the_classes(folder, finished):
    data = load_data(config())
    kept = kept_tokens(finished)
    assert data.class_names == ["cross", "disc", "frame"]
    assert torch.equal(kept["labels"], 2 - data.labels)  # the base counts backwards
    assert torch.equal(kept["test_labels"], 2 - data.test_labels)
    assert read_json(finished / "tokens" / "classes.json")["class_names"][0] == "frame"
    found = labels.load_data(config(f"base={folder}"))
    assert torch.equal(found.labels, kept["labels"]) and found.class_names[0] == "frame"


def test_part_of_the_bases_classes_is_enough(tmp_path):
    made = make_base(tmp_path / "made", ["owl", "frame", "cross"])
    assert labels.numbers(config(f"base={made}"), ["cross", "frame"]).tolist() == [2, 1]


def test_other_names_count_by_number(tmp_path):
    made = make_base(tmp_path / "made", ["class 0", "class 1", "class 2"])
    cfg = config(f"base={made}")
    assert labels.numbers(cfg, ["a", "b", "c"]).tolist() == [0, 1, 2]
    said = "has 2 classes and base=.* has 3, none of them by the same name"
    with pytest.raises(DD2Error, match=said):
        labels.numbers(cfg, ["a", "b"])


def test_another_base_makes_the_tokens_anew(folder, tmp_path):
    kept = {}
    for name, made in (("one", folder), ("two", make_base(tmp_path / "two", seed=1)),
                       ("again", folder)):
        cfg = config(f"base={made}", f"out={tmp_path / 'run'}")
        tokens.load_tokens(cfg, build.load_tokenizer(cfg, CPU), CPU)
        kept[name] = kept_tokens(tmp_path / "run")["tokens"]
    assert torch.equal(kept["one"], kept["again"])
    assert not torch.equal(kept["one"], kept["two"])


# The classifier -------------------------------------------------------------------------------

def test_the_bases_classifier_is_exported_and_measures(folder, finished):
    model = finished / "model"
    a, b = (read_tensors(f / "classifier.safetensors") for f in (folder, model))
    assert all(torch.equal(a[k].half(), b[k].half()) for k in a)
    assert read_json(model / "config.json")["classifier"] == SIZES
    assert cli("evaluate", "preset=tiny", f"data={PICTURES}", "channels=1", f"out={finished}",
               f"base={folder}", "n=8", "sampler=one_step") is None
    result = json.loads((finished / "evaluate" / "one_step.json").read_text())
    assert 0 <= result["accuracy"] <= 1
    said = result["provenance"]  # of whatever took part
    assert {f"{p}.safetensors" for p in ("tokenizer", "teacher", "generator", "classifier")} <= set(
        said["weights"])
    assert said["weights"]["generator.safetensors"] == sha256(model / "generator.safetensors")
    assert said["seed"] == 0 and (result["training_minutes"] is None
                                  or result["trained_on"] == said["device"])
    assert (finished / "csd" / "machines.jsonl").read_text().count("\n") >= 1


def test_a_classifier_of_the_run_comes_first(folder, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    words = [f"base={folder}", *STEPS, "classifier.width=8"]
    assert grey("classifier", run, *words) is None
    assert grey("export", run, *words) is None
    assert read_json(run / "model" / "config.json")["classifier"]["width"] == 8


def test_neither_has_a_classifier(finished, tmp_path):
    made, run = make_base(tmp_path / "made"), tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("model"))
    assert grey("export", run, f"base={made}", *STEPS) is None
    assert not (run / "model" / "classifier.safetensors").exists()
    assert "classifier" not in read_json(run / "model" / "config.json")


# train.all ------------------------------------------------------------------------------------

def test_all_leaves_out_what_the_base_brings(folder, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("train.engine.launch.call",
                        lambda words, environment: started.append(words) or 0)
    assert grey("all", tmp_path / "run", f"base={folder}") is None
    stages = [words[2].removeprefix("train.") for words in started]
    assert not {"tokenizer", "teacher", "classifier"} & set(stages)
    assert {"gts", "csd", "export", "evaluate"} <= set(stages)
    assert all(f"base={folder}" in words for words in started)
    plain = make_base(tmp_path / "plain")
    assert train_all.brought(config(f"base={plain}")) == {"tokenizer", "teacher"}
    assert train_all.brought(config()) == set()


# Mistakes -------------------------------------------------------------------------------------

@pytest.mark.parametrize("stage", ["tokenizer", "teacher"])
def test_stages_that_the_base_brings_are_refused(stage, folder, tmp_path):
    says = f"brings its own {stage}: leave the stage {stage} out"
    assert says in grey(stage, tmp_path / "run", f"base={folder}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["image_size=32"], "does not fit these settings: set image_size=16."),
    (["channels=3", "family=var"], "does not fit these settings: set family=llamagen channels=1."),
])
def test_settings_that_do_not_fit_the_base_say_what_to_set(words, says, folder, tmp_path):
    assert says in grey("gts", tmp_path / "run", f"base={folder}", *words)


def test_a_base_that_is_not_there_or_damaged_is_one_sentence(folder, tmp_path):
    assert "There is no model" in grey("gts", tmp_path / "run", "base=no-such-model")
    made = tmp_path / "made"
    shutil.copytree(folder, made)
    (made / "teacher.safetensors").write_bytes(b"x")
    stopped = grey("gts", tmp_path / "run", f"base={made}")
    assert "teacher.safetensors is damaged" in stopped and "\n" not in stopped
    write_json(made / "config.json", {"format": 99})
    assert "is of format 99" in grey("gts", tmp_path / "run", f"base={made}")


# Official weights, all the way ----------------------------------------------------------------

def convert_official(family, folder):
    """Official files of tiny sizes → model folder; words that fit it."""
    if family == "llamagen":
        gpt, vq = plain.states(depth=1, classes=3, mult=(1, 1))
        convert.run(convert.Convert(source=write(folder, gpt, vq), out=str(folder / "base"),
                                    num_heads=4, grid=4))
        return ["image_size=8", "channels=3"]
    d = description("var_tiny")
    keys = d["var_keys"] | {"class_emb.weight": [4, d["config"]["embed_dim"]]}
    convert.run(convert.Convert(source=write(folder, seeded_state(keys),
                                             seeded_state(d["vqvae_keys"])),
                                out=str(folder / "base"), patch_nums=d["config"]["patch_nums"]))
    size = describe(folder / "base").tokenizer.image_size
    return [f"image_size={size}", "channels=3", "family=var"]


def write(folder, transformer, tokenizer):
    """The two files, and what `source=` calls them."""
    torch.save({"model": transformer}, folder / "a.pt")
    torch.save({"model": tokenizer}, folder / "b.pt")
    return f"{folder / 'a.pt'},{folder / 'b.pt'}"


@pytest.mark.parametrize("family", ["llamagen", "var"])
def test_official_weights_are_converted_distilled_exported_and_paint(family, tmp_path):
    words = [*convert_official(family, tmp_path), f"base={tmp_path / 'base'}", *STEPS,
             "gts.bf16=true", "csd.bf16=true", "gts.chunk=50", "csd.chunk=50"]
    for stage in ("gts", "csd", "export"):
        assert cli(stage, "preset=tiny", f"data={PICTURES}", f"out={tmp_path / 'run'}",
                   *words) is None
    pipe = load_pipeline(str(tmp_path / "run" / "model"), "cpu")
    side = describe(tmp_path / "base").tokenizer.image_size
    for sample in (pipe.sample_one_step([0, 1, 2]), pipe.sample_teacher([0, 1, 2]),
                   pipe.refine([0, 1, 2], start=1)):
        assert sample.images.shape == (3, side, side, 3)
    assert pipe.family == family and pipe.class_names == ["class 0", "class 1", "class 2"]
    kept = read_json(tmp_path / "run" / "model" / "config.json")["source"]["files"]
    assert set(kept) == {"a.pt", "b.pt"}
