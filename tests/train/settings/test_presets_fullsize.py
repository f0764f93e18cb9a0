"""Presets of the official sizes, and what their steps cost, on shapes without content."""

import dataclasses
import re

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from dd2core.errors import DD2Error
from dd2core.families.llamagen.official import SIZES
from dd2core.noise import Part
from dd2core.official import load_llamagen, load_var
from tests.families.test_official_llamagen import official_keys as llamagen_keys
from tests.families.test_var_parity import official_keys as var_keys
from tests.support.parity import description, meta_state
from tests.support.train_helpers import GREY, cli, config
from train.engine.assemble import load_teacher
from train.engine.recompute import checkpoint_blocks
from train.measure import cost, flops
from train.measure.counting import depth, steps
from train.results import plans
from train.results.plans import PAPER_HOURS, PARTS
from train.settings.cli import PRESETS, ROOT, find_preset, load_config

LLAMAGEN = {f"llamagen-{size.lower()}": size for size in SIZES}
VAR = {f"var-d{n}": n for n in (16, 20, 24, 30)}
ALL = [*LLAMAGEN, *VAR]
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", LLAMAGEN)
def test_llamagen_presets_have_the_official_sizes(name):
    cfg, vq = load_config([f"preset={name}"]), description("llamagen_official_keys")["VQ-16"]
    cfg.adapt.steps = 0  # before the table becomes an MLP
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
    assert "UNTESTED at this size" in comment and "docs/fullsize.md" in comment
    assert f"out={cfg.base}" in comment and f"preset={name}" in comment
    assert cfg.name == name and cfg.base == f"runs/official/{name}"
    for stage in (cfg.gts, cfg.csd):
        assert stage.batch % (cfg.processes * stage.accumulate) == 0 and stage.bf16 and stage.chunk
    assert cfg.csd.start == "gts" and cfg.csd.average is None
    assert cfg.gts.sampling == cfg.csd.sampling and cfg.samples.sampling == cfg.sampling
    assert ("Not in the paper" in comment) == (name not in PAPER_HOURS)
    if name not in PAPER_HOURS:
        near = "llamagen-l" if name in LLAMAGEN else "var-d24"
        assert near in comment
        other = load_config([f"preset={near}"])
        for ours, its in ((cfg.gts, other.gts), (cfg.csd, other.csd)):
            assert dataclasses.replace(ours, accumulate=its.accumulate) == its
    assert cfg.warm.steps == cfg.tune.steps == 0
    given = yaml.safe_load(text)
    assert {"lr", "steps", "batch"} <= given["gts"].keys() & given["csd"].keys()


# The estimate ---------------------------------------------------------------------------------

def numbers(text, pattern):
    return [float(x) for x in re.search(pattern, text).groups()]


@pytest.mark.parametrize("name, few", [
    ("llamagen-b", ("teacher.depth=6",)),
    ("var-d16", ("teacher.depth=4", "gts.batch=64", "csd.batch=64"))])
def test_a_dry_run_prints_parameters_memory_and_operations(
        name, few, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # neither weights nor data are here
    stages = ("adapt", "gts", "csd") if name in LLAMAGEN else ("gts", "csd")
    for stage in stages:
        words = (f"preset={name}", "dry_run=true", f"out={tmp_path / 'run'}", "device=cpu", *few)
        assert cli(stage, *words) is None
        said = capsys.readouterr().out
        total, each, fixed, gradients, adam, working = numbers(
            said, r"([\d.]+) GiB per GPU at (\d+) images .*: weights and average ([\d.]+), "
                  r"gradients ([\d.]+), AdamW ([\d.]+), activations and temporaries ([\d.]+)")
        assert total == pytest.approx(fixed + gradients + adam + working, abs=0.21)
        assert adam == pytest.approx(2 * gradients, abs=0.11) and min(fixed, working) > 0.5
        cfg = load_config([f"preset={name}", *few])
        o = getattr(cfg, stage)
        assert each == o.batch / 8 / o.accumulate
        (hours,) = numbers(said, r"steps: (\d+) GPU-hours")
        assert hours > 0
        assert "an estimate" in said and "nothing written" in said
        (millions,) = numbers(said, r"teacher ([\d.]+) M parameters")
        assert millions == pytest.approx({"llamagen-b": 59.4, "var-d16": 83.6}[name], abs=0.06)
    assert not (tmp_path / "run").exists()


def test_the_table_of_plans_has_the_presets_steps_and_passes():
    rows = re.findall(r"^\| `([\w-]+)` \| ([\w, ]+) \| (\d+) × (\d+) \| \d+ \| ([\d,]+) \|",
                      (ROOT / "docs" / "fullsize.md").read_text(), re.MULTILINE)
    assert {name for name, *_ in rows} == set(plans.PRESETS) == set(ALL)
    for name, part, images, passes, taken in rows:
        cfg = load_config([f"preset={name}"])
        stage = {p: s for s, found in PARTS.items() for p in found.values()}[part]
        o = getattr(cfg, stage)
        assert (int(images), int(passes)) == (o.batch // cfg.processes // o.accumulate,
                                              o.accumulate)
        held, head = getattr(o, "align_steps", 0), getattr(o, "head_steps", 0)
        expected = {"alignment": held, "GTS, head": head}.get(part, o.steps - held - head)
        assert int(taken.replace(",", "")) == expected


def test_a_row_of_the_plans_is_the_sum_of_its_kinds_of_steps(monkeypatch):
    found = cost.Cost(2**30, 2**30, 0, 0, ((8000, "", 50), (1600, "on hold", 20),
                                           (7500, "after the alignment", 30)))
    monkeypatch.setattr(plans, "stage_cost", lambda cfg, stage: found)
    monkeypatch.setattr(plans, "PARTS", {"csd": plans.PARTS["csd"]})
    csd, alignment = sorted(plans.rows("var-d16"), key=lambda row: row.part)
    assert (csd.steps, csd.flops) == (15_500, 8 * (8000 * 50 + 7500 * 30))
    assert (alignment.steps, alignment.flops) == (1600, 8 * 1600 * 20)
    assert (csd.gib, csd.images, csd.passes) == (2.0, 16, 4)
    assert csd.paper == pytest.approx(8 * 42.6) and alignment.paper == pytest.approx(8 * 4.8)
    assert csd.hours == pytest.approx(csd.flops / cost.SPEED / 3600)
    assert plans.line(csd).startswith("| `var-d16` | CSD | 16 × 4 | 2 | 15,500 |")
    assert plans.line(csd).endswith(f" | 341 | {csd.hours / csd.paper:.1f} | 0 |")
    assert plans.line(csd).count("|") == plans.HEAD.split("\n")[1].count("|")


def real_step(cfg, stage, batch):
    """Operations and living bytes of a real step, networks and all."""
    teacher = load_teacher(cfg, CPU)
    make_step, copies = steps.STEPS[stage]
    networks = [cost.new_score_model(cfg, teacher, False) for _ in range(copies)]
    o = getattr(cfg, stage)
    if getattr(o, "adversarial", 0):
        networks.append(cost.new_discriminator(cfg, teacher, o))
    step = make_step(o, teacher, networks)
    checkpoint_blocks(o, *networks)
    parts = Part(0, cfg.processes).split(o.accumulate)
    with FlopCounterMode(display=False, custom_mapping=flops.attention_flops()) as counted, \
            cost.Alive() as alive:
        for module in (teacher, *networks):  # weights are there before, and count elsewhere
            for a in (*module.parameters(), *module.buffers()):
                alive.seen.add(a.untyped_storage())
        cost.fill_gradients(networks)
        step(batch * parts[0].count, parts, lambda work: None)
    trained = sum(cost.count(m) for m in networks)
    return counted.get_total_flops(), alive.peak - 4 * trained


@pytest.mark.parametrize("words", [
    (), ("teacher.token_input=table",), ("gts.chunk=7",), ("{}.checkpoint_blocks=true",),
    ("{}.accumulate=3", "processes=2", "csd.form=sid", "csd.fresh=true", "csd.adversarial=1")])
@pytest.mark.parametrize("stage", ["gts", "csd"])
def test_the_estimate_is_what_a_real_step_takes(stage, words, monkeypatch):
    monkeypatch.setattr(cost, "IMAGENET_CLASSES", 3)  # those of the pictures
    cfg = config("dry_run=true", "out=/nowhere", *(word.format(stage) for word in words))
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


def saved_by_blocks(cfg, batch):
    """Bytes that the backward pass of the blocks keeps, as autograd itself tells: of all of them,
    and of one input."""
    teacher = load_teacher(cfg, CPU)
    model = cost.new_score_model(cfg, teacher, False)
    ours, saved = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def pack(a):
        if a.untyped_storage().data_ptr() not in ours:
            saved[a.untyped_storage().data_ptr()] = a.untyped_storage().nbytes()
        return a

    x = torch.randn(batch, teacher.num_tokens, cfg.teacher.width)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda a: a):
        kept = model.backbone.run_blocks(x)
    assert kept.requires_grad
    return sum(saved.values()), x.nbytes


def test_checkpointing_frees_what_autograd_says_that_blocks_keep():
    words = ("dry_run=true", "out=/nowhere", "teacher.depth=6", "teacher.width=64", "gts.times=1")
    plain, less = (cost.estimate(config(*words, f"gts.checkpoint_blocks={on}"), "gts", 16)[0]
                   for on in ("false", "true"))
    blocks, x = saved_by_blocks(config(*words), 16)
    freed = plain.working - less.working  # all but the inputs, and at most one block's
    assert blocks * 5 / 6 - 6 * x < 1.05 * freed < 1.1 * (blocks - 6 * x)
    depth = 3 * cost.count(load_teacher(config(*words), CPU).transformer)
    assert less.flops > plain.flops > depth and less.total < plain.total


def test_passes_take_the_memory_of_one_and_the_operations_of_all():
    def found(stage, *words):
        return cost.estimate(config("dry_run=true", "out=/nowhere", *words), stage, 8)[0]

    for stage in ("gts", "csd"):
        one, four = found(stage), found(stage, f"{stage}.accumulate=4")
        again = found(stage, f"{stage}.accumulate=8").working - four.working
        assert four.working < 1.5 * one.working and again < 0.2 * one.working
        extra = 4 * one.steps[0][2] if stage == "gts" else 4 * one.flops
        assert extra <= four.flops < 1.3 * extra  # csd: G's pass is made again for its update


def test_the_kinds_of_steps_are_counted_one_by_one():
    words = ("dry_run=true", "out=/nowhere", "processes=1")
    gts = cost.estimate(config(*words, "gts.head_steps=4"), "gts", 4)[0].steps
    assert [n for n, _, _ in gts] == [2, 4] and gts[1][2] < 0.8 * gts[0][2]
    assert cost.estimate(config(*words), "gts", 4)[0].steps[1] == (
        0, "that train the head alone", 0)
    csd = cost.estimate(config(*words, "csd.guidance_steps=5", "csd.align_at=3",
                               "csd.align_steps=1", "csd.guidance_steps_after=2"), "csd", 4)[0]
    (n, _, usual), (m, _, held), (k, _, after) = csd.steps
    assert (n, m, k) == (3, 1, 2) and csd.flops == usual > held > after - (usual - held)
    plain = cost.estimate(config(*words), "csd", 4)[0].flops  # one step of ψ
    assert usual - after == pytest.approx(3 * (usual - plain) / 4)
    said = "\n".join(cost.report(config(*words, "gts.head_steps=4"), "gts"))
    assert "in 4 that train the head alone), 6 steps: " in said


@pytest.mark.parametrize("words", [
    ("gts.head_steps=2",), ("csd.form=sid", "csd.fresh=true", "csd.accumulate=3", "processes=2",
                            "csd.checkpoint_blocks=true")])
def test_two_and_three_blocks_tell_of_seven(words, monkeypatch):
    stage = words[0][:3]
    cfg = config("dry_run=true", "out=/nowhere", "teacher.depth=7", "teacher.width=64", *words)
    few = cost.estimate(cfg, stage, 4)[0]
    monkeypatch.setattr(depth, "FEW", 7)
    assert few == cost.estimate(cfg, stage, 4)[0]


@pytest.mark.parametrize("name, batch", [("var-d20", 512), ("llamagen-l", 1024)])
def test_the_papers_batches_fit_60_gib_on_each_of_eight_gpus(name, batch):
    cfg = load_config([f"preset={name}"])
    assert (cfg.csd.batch, cfg.processes, cfg.shard) == (batch, 8, False)
    assert plans.stage_cost(cfg, "csd").total < 60 * 2**30


def test_sharding_in_nodes_divides_by_the_processes_of_a_node():
    words = ("dry_run=true", "out=/nowhere", "shard=true", "processes=16")
    everyone, nodes, small, odd = (
        config(*words, *more) for more in (
            (), ("shard_in_node=true",), ("shard_in_node=true", "node_size=2"),
            ("shard_in_node=true", "node_size=3")))
    assert [cost.sharing(cfg) for cfg in (everyone, nodes, small)] == [16, 8, 2]
    assert cost.sharing(config(*words[:3], "processes=4", "shard_in_node=true")) == 4
    with pytest.raises(DD2Error, match="processes=16 do not divide into nodes of node_size=3"):
        cost.sharing(odd)
    small.csd.batch = 32
    assert ", sharded in nodes of 2 (" in cost.report(small, "csd")[1]


def test_sharding_divides_what_is_held_and_keeps_the_step():
    cfg = config("dry_run=true", "out=/nowhere", "shard=true", "processes=4")
    found, teacher, model = cost.estimate(cfg, "csd", 2)
    few = cost.sharded(found, teacher, model, 2, 4)
    held = 4 * (cost.count(teacher.transformer) + 3 * cost.count(model))  # G, ψ, the average
    assert found.fixed - few.fixed == pytest.approx(held * 3 / 4, abs=1)
    assert (4 * few.gradients, 4 * few.optimizer) == (found.gradients, found.optimizer)
    block = 4 * cost.count(model.backbone.blocks[0])
    assert few.flops == found.flops and few.working >= found.working + 3 * block
    passes = cost.sharded(found, teacher, model, 2, 4, accumulate=2)
    assert passes.working - few.working == 4 * cost.count(model)  # whole gradients, added up
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
