"""Presets of the official sizes, and what their steps cost, on shapes without content."""

import re

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from dd2core.families.llamagen.official import SIZES
from dd2core.official import load_llamagen, load_var
from tests.families.test_official_llamagen import official_keys as llamagen_keys
from tests.families.test_var_parity import official_keys as var_keys
from tests.support.parity import description, meta_state
from tests.support.train_helpers import GREY, cli, config
from train.engine.assemble import load_teacher
from train.measure import cost, flops
from train.settings.cli import PRESETS, find_preset, load_config

LLAMAGEN = {f"llamagen-{size.lower()}": size for size in SIZES}
VAR = {f"var-d{n}": n for n in (16, 20, 24, 30)}
ALL = [*LLAMAGEN, *VAR]
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", LLAMAGEN)
def test_llamagen_presets_have_the_official_sizes(name):
    cfg, vq = load_config([f"preset={name}"]), description("llamagen_official_keys")["VQ-16"]
    found = cost.build_teacher(cfg)
    grid = 24 if LLAMAGEN[name].startswith("X") else 16
    official = load_llamagen(meta_state(llamagen_keys(LLAMAGEN[name])), meta_state(vq), grid=grid)
    assert found.transformer.cfg == official.transformer.cfg
    assert found.tokenizer.cfg == official.tokenizer.cfg
    assert (cfg.image_size, cfg.channels, cfg.family) == (16 * grid, 3, "llamagen")


@pytest.mark.parametrize("name", VAR)
def test_var_presets_have_the_official_sizes(name):
    cfg = load_config([f"preset={name}"])
    vae = description("var_official_keys")["vae_ch160v4096z32"]
    found = cost.build_teacher(cfg)
    official = load_var(meta_state(var_keys(VAR[name])), meta_state(vae))
    assert found.transformer.cfg == official.transformer.cfg
    assert found.tokenizer.cfg == official.tokenizer.cfg
    assert (cfg.image_size, cfg.channels, cfg.family) == (256, 3, "var")


@pytest.mark.parametrize("name", ALL)
def test_presets_are_complete_and_say_that_they_are_untested(name):
    path = find_preset(name)
    assert path.parent == PRESETS
    text, cfg = path.read_text(), load_config([f"preset={name}"])
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert "UNTESTED at this size" in comment and "60 TFLOP/s" in comment
    assert f"out={cfg.base}" in comment and f"preset={name}" in comment
    assert cfg.name == name and cfg.base == f"runs/official/{name}"
    for stage in (cfg.gts, cfg.csd):
        assert stage.batch % cfg.processes == 0 and stage.bf16 and stage.chunk
    assert cfg.csd.start == "gts" and cfg.csd.average is None
    assert cfg.gts.sampling == cfg.csd.sampling == cfg.sampling
    assert cfg.warm.steps == cfg.tune.steps == 0
    given = yaml.safe_load(text)
    assert {"lr", "steps", "batch"} <= given["gts"].keys() & given["csd"].keys()


# The estimate ---------------------------------------------------------------------------------

def numbers(text, pattern):
    return [float(x) for x in re.search(pattern, text).groups()]


@pytest.mark.parametrize("name", ["llamagen-b", "var-d16"])
def test_a_dry_run_prints_parameters_memory_and_operations(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # neither weights nor data are here
    hours, gib = {}, {}
    for stage in ("gts", "csd"):
        words = (f"preset={name}", "dry_run=true", f"out={tmp_path / 'run'}", "device=cpu")
        assert cli(stage, *words) is None
        said = capsys.readouterr().out
        total, each, fixed, gradients, adam, working = numbers(
            said, r"([\d.]+) GiB per GPU at (\d+) images .*: weights and average ([\d.]+), "
                  r"gradients ([\d.]+), AdamW ([\d.]+), activations and temporaries ([\d.]+)")
        assert total == pytest.approx(fixed + gradients + adam + working, abs=0.21)
        assert adam == pytest.approx(2 * gradients, abs=0.11) and min(fixed, working) > 0.5
        cfg = load_config([f"preset={name}"])
        assert each == getattr(cfg, stage).batch / 8
        (gib[stage],), (hours[stage],) = [total], numbers(said, r"steps: (\d+) GPU-hours")
        assert "an estimate" in said and "nothing written" in said
        (millions,) = numbers(said, r"teacher ([\d.]+) M parameters")
        assert millions == pytest.approx({"llamagen-b": 110.9, "var-d16": 310.3}[name])
    assert not (tmp_path / "run").exists()
    # The preset's comment tells the same.
    comment = " ".join(line.lstrip("# ") for line in find_preset(name).read_text().splitlines())
    gts, csd, most = numbers(
        comment, r"this plan is (\d+) for gts and (\d+) for csd at 60 .*Batches: (\d+) GiB")
    assert (gts, csd) == (hours["gts"], hours["csd"])
    assert most == round(max(gib.values()))


def real_step(cfg, stage, batch):
    """Operations and living bytes of a real step, networks and all."""
    teacher = load_teacher(cfg, CPU)
    make_step, copies = cost.STEPS[stage]
    networks = [cost.new_score_model(cfg, teacher, False) for _ in range(copies)]
    step = make_step(getattr(cfg, stage), teacher, networks)
    with FlopCounterMode(display=False, custom_mapping=flops.attention_flops()) as counted, \
            cost.Alive() as alive:
        for module in (teacher, *networks):  # weights are there before, and count elsewhere
            for a in (*module.parameters(), *module.buffers()):
                alive.seen.add(a.untyped_storage())
        cost.fill_gradients(networks)
        step(batch)
    trained = sum(cost.count(m) for m in networks)
    return counted.get_total_flops(), alive.peak - 4 * trained


@pytest.mark.parametrize("words", [(), ("teacher.token_input=table",), ("gts.chunk=7",)])
@pytest.mark.parametrize("stage", ["gts", "csd"])
def test_the_estimate_is_what_a_real_step_takes(stage, words):
    cfg = config("dry_run=true", "out=/nowhere", *words)
    found, _, _ = cost.estimate(cfg, stage, 5)
    flops, working = real_step(cfg, stage, 5)
    assert found.flops == flops
    assert found.working == pytest.approx(working, rel=0.05)
    assert found.total == found.fixed + found.gradients + found.optimizer + found.working


def test_more_images_cost_more_and_weights_do_not():
    cfg = config("dry_run=true", "out=/nowhere")
    few, more, most = (cost.estimate(cfg, "csd", n)[0] for n in (8, 16, 32))
    assert (few.fixed, few.gradients) == (most.fixed, most.gradients)
    assert most.flops - more.flops == 2 * (more.flops - few.flops)
    assert most.working - more.working == pytest.approx(2 * (more.working - few.working), rel=0.1)


def test_sharding_divides_what_is_held_and_keeps_the_step():
    cfg = config("dry_run=true", "out=/nowhere", "shard=true", "processes=4")
    found, teacher, model = cost.estimate(cfg, "csd", 2)
    few = cost.sharded(found, teacher, model, 2, 4)
    held = 4 * (cost.count(teacher.transformer) + 3 * cost.count(model))  # G, ψ, the average
    assert found.fixed - few.fixed == pytest.approx(held * 3 / 4, abs=1)
    assert (4 * few.gradients, 4 * few.optimizer) == (found.gradients, found.optimizer)
    block = 4 * cost.count(model.backbone.blocks[0])
    assert few.flops == found.flops and few.working >= found.working + 3 * block
    assert "on each of 4, sharded (" in cost.report(cfg, "csd")[1]
    assert "sharded" not in cost.report(config("dry_run=true", "processes=4"), "csd")[1]


def test_small_presets_still_run_one_real_step(tmp_path, capsys):
    assert not cost.estimated(config("dry_run=true"), "gts")
    assert not cost.estimated(load_config(["preset=llamagen-b"]), "gts")  # no dry run
    assert cli("gts", *GREY, "dry_run=true", f"out={tmp_path / 'x'}") is None
    assert "first step" in capsys.readouterr().out


def test_a_batch_that_does_not_divide_is_one_sentence():
    stopped = cli("gts", "preset=llamagen-b", "dry_run=true", "gts.batch=12", "device=cpu")
    assert "gts.batch=12 does not divide among processes=8" in stopped


def test_all_dry_runs_without_the_base(monkeypatch, tmp_path):
    from train.all import brought

    monkeypatch.chdir(tmp_path)
    assert brought(load_config(["preset=var-d16", "dry_run=true"])) == {"tokenizer", "teacher"}
    assert "There is no model 'runs/official/var-d16'" in cli("all", "preset=var-d16")
