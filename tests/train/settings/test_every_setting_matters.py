"""Every setting of every training stage changes what the stage computes, or is refused, or stands
here with the reason why it changes nothing. A setting without an entry fails."""

import dataclasses
from typing import Any

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.sampling import Sampling
from dd2core.store.files import read_tensors, write_tensors
from tests.support import tiny
from tests.support.train_helpers import config
from tests.train.settings.toy_stages import computed, counted, job, sequences, toy
from train.engine.assemble import load_generator, new_discriminator, new_tokenizer
from train.settings.schema import Config, Stage


@dataclasses.dataclass(frozen=True)
class To:
    """What a setting is changed to, the settings in which it is at work, and how long."""

    value: Any
    base: tuple[tuple[str, Any], ...] = ()
    steps: int = 2


def to(value: Any, steps: int = 2, **base: Any) -> To:
    """`To`; `base` has __ in place of the dot."""
    return To(value, tuple((k.replace("__", "."), v) for k, v in base.items()), steps)


OTHER = Sampling(3.0, top_k=3)
CALM = ("log_every", "save_every")  # change nothing: when the log and states are written
STAGE = {  # of `Stage`
    "steps": to(9), "batch": to(6), "lr": to(0.02), "warmup": to(4), "lr_start": to(4e-4),
    "lr_final": to(1.0), "weight_decay": to(0.5), "beta1": to(0.5), "beta2": to(0.5),
    "clip": to(0.01), "ema": to(0.05), "bf16": to(True)}
PASSES = {"accumulate": to(2), "checkpoint_blocks": to(True)}
SCORE = {  # of `ScoreOptions`
    "times": to(3), "t_min": to(0.3), "t_max": to(0.6), "sampling": to(OTHER), "chunk": to(7),
    "weighting": to("velocity")}


def csd(stage: str) -> dict[str, To]:
    """Of csd and tune."""
    pairs, sid = {f"{stage}__pair_share": 0.5, "warm__euler_steps": 2}, {f"{stage}__form": "sid"}
    first, at = {f"{stage}__ema_first": 2}, {f"{stage}__align_at": 1}
    judge = {f"{stage}__adversarial": 0.5}
    snaps = {f"{stage}__grid_every": 1, f"{stage}__average": [1, 2]}
    return {
        **STAGE, **PASSES, **SCORE, "form": to("sid"), "alpha": to(0.4, **sid),
        "omega_min": to(2.0), "guidance_steps": to(2), "fresh": to(True),
        "prefix": to("continuous"), "fcs_times": to(3), "ema_warmup": to(2.0), "ema_first": to(2),
        "ema_first_decay": to(0.2, **first), "lr_guidance": to(0.02),
        "average": to([2, 2], **snaps), "grid_every": to(2, **snaps), "start": to("warm"),
        "generator_from_teacher": to(True),
        "guidance_from_teacher": to(True), "guidance_first": to(1), "warmup_guidance": to(10),
        "align_at": to(1), "align_steps": to(1, **at),
        "guidance_steps_after": to(2, **at), "pair_share": to(0.5, warm__euler_steps=2),
        "pair_weight": to(2.0, **pairs), "adversarial": to(0.5),
        "adversarial_from": to(1, **judge),
        "adversarial_t_max": to(0.6, **judge), "lr_discriminator": to(0.02, **judge)}


def dd1(stage: str) -> dict[str, To]:
    """Of dd1 and warm."""
    two = {f"{stage}__second_share": 0.5}
    return {
        **STAGE, **PASSES, "pairs": to(9), "pair_batch": to(5), "euler_steps": to(4),
        "sharpness": to(1.0), "latent_weight": to(3.0), "second_share": to(0.5),
        "second_start": to(2, **two), "sampling": to(OTHER)}


VAR, ADVERSARY = {"family": "var"}, {"tokenizer__adversarial": 0.5}
BEST, TABLE = {"teacher__keep": "best"}, {"teacher__token_input": "table"}
MLP = {"teacher__token_input": "mlp"}
STILL = {**BEST, "teacher__check_every": 1, "teacher__lr": 0.0}
DONE = {**TABLE, "adapt__tolerance": 100.0}


def within(table: dict[str, To], **base: Any) -> dict[str, To]:
    """The same table with more settings in which all of it is at work."""
    return {k: To(c.value, (*to(0, **base).base, *c.base), c.steps) for k, c in table.items()}


CHANGES: dict[str, dict[str, To]] = {
    "tokenizer": {
        **STAGE, "width": to(4), "mult": to([1, 1, 1]), "res_blocks": to([1, 1, 1]),
        "decoder_res_blocks": to([1, 1, 1]), "z_channels": to(12), "num_codes": to(64),
        "code_dim": to(6), "groups": to(2), "attention": to(False), "patch": to(2),
        "patch_nums": to([1, 3, 4], **VAR),
        "phi_convs": to(2, **VAR), "l1": to(3.0), "l2": to(3.0), "commitment": to(2.0),
        "revive_every": to(1), "perceptual": to(0.5, dry_run=True), "adversarial": to(0.5),
        "adversarial_from": to(1, **ADVERSARY), "adaptive": to(False, **ADVERSARY),
        "r1": to(5.0, **ADVERSARY), "lr_discriminator": to(0.02, **ADVERSARY),
        "disc_width": to(4, **ADVERSARY), "disc_levels": to(1, **ADVERSARY),
        "disc_norm": to("spectral", **ADVERSARY), "flip": to(True), "crop": to(0.4)},
    "teacher": {
        **STAGE, **PASSES, "class_dropout": to(0.9), "dropout": to(0.5), "depth": to(2),
        "width": to(16), "heads": to(4), "hidden": to(32), "token_input": to("table"),
        "input_hidden": to(12, **MLP), "input_layers": to(1, **MLP), "mlp_ratio": to(2.0, **VAR),
        "shared_aln": to(True, **VAR), "attn_l2_norm": to(False, **VAR), "keep": to("best"),
        "check_every": to(1, **BEST), "patience": to(1, 4, **STILL)},
    "adapt_fit": within({k: v for k, v in STAGE.items() if k not in ("batch", "ema", "bf16")},
                        **TABLE),
    "adapt": within({
        **STAGE, **PASSES, "class_dropout": to(0.9), "dropout": to(0.5),
        "check_every": to(2, **DONE), "tolerance": to(100.0)}, **TABLE),
    "head": {"depth": to(1), "width": to(8), "t_init": to(0.5), "prediction": to("velocity")},
    "gts": {**STAGE, **PASSES, **SCORE, "head_steps": to(1), "target": to("sample"),
            "data": to("samples")},
    "csd": csd("csd"), "tune": within(csd("tune"), **VAR),  # each of a pair in another family
    "dd1": dd1("dd1"), "warm": within(dd1("warm"), **VAR),
    "classifier": {**STAGE, "arch": to("residual"), "width": to(6), "features": to(5)},
}
DRAWN = {
    "samples": {"n": to(12), "sampling": to(OTHER), "bf16": to(True), "per_file": to(4)},
    "tokens": {"transform": to("var"), "flips": to(True), "crops": to(10), "per_file": to(4)}}
NOTHING = {
    "adapt_fit.batch": "every step sees all codes; what the log counts as images",
    "tokenizer.workers": "reads the same pictures ahead", "tokens.workers": "the same",
    "samples.batch": "a sample depends on the seed, its number and its label alone",
    **{f"{stage}.name": "the folder's name: `test_settings_reach.py`"
       for stage in ("dd1", "warm", "classifier")},
}
ELSEWHERE = {  # what takes a file, or a deeper teacher
    **{f"{stage}.start_share": "test_a_part_of_what_the_generator_began_as_is_kept"
       for stage in ("csd", "tune")},
    **{f"{stage}.adversarial_depth": "test_the_discriminator_has_as_many_blocks_as_are_asked_for"
       for stage in ("csd", "tune")},
    "head.generator_depth": "test_the_generator_has_the_first_blocks_of_a_deeper_network",
    "tokenizer.init": "test_a_tokenizer_begins_from_a_file",
    "tokenizer.decoder_only": "test_a_tokenizer_begins_from_a_file",
    "tokenizer.perceptual_net": "test_the_perceptual_term_looks_with_the_net_that_is_named"}
PAINTED = ("csd", "tune")
REFUSED = {
    **{f"{stage}.grid_every": "5" for stage in CHANGES if stage not in (*PAINTED, "head")},
    **{f"{stage}.{name}": value for stage in ("tokenizer", "classifier", "adapt_fit")
       for name, value in (("accumulate", "2"), ("checkpoint_blocks", "true"))},
    "adapt_fit.ema": "0.5", "adapt_fit.bf16": "true",
    **{f"{stage}.pair_{name}": "2.5" for stage in PAINTED
       for name in ("sharpness", "latent_weight")}}


KNOWN: dict[str, dict[str, Any]] = {}


def base(stage: str, settings: tuple, steps: int, out) -> dict[str, Any]:
    key = repr((stage, settings, steps, out))
    if key not in KNOWN:
        KNOWN[key] = computed(stage, toy(dict(settings), out), steps)
    return KNOWN[key]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


def cases(table: dict[str, dict[str, To]]) -> list:
    return [pytest.param(stage, name, change, id=f"{stage}.{name}")
            for stage, changes in table.items() for name, change in changes.items()]


@pytest.mark.parametrize("stage, name, change", cases(CHANGES))
def test_a_setting_of_a_stage_changes_what_it_computes(stage, name, change, out):
    before = base(stage, change.base, change.steps, out)
    changed = toy(dict(change.base) | {f"{stage}.{name}": change.value}, out)
    assert computed(stage, changed, change.steps) != before


@pytest.mark.parametrize("stage", CHANGES)
def test_without_a_change_a_stage_computes_the_same_bit_by_bit(stage, out):
    """Also where the pairs of DD1 are read that were made the first time."""
    usual, *others = CHANGES[stage].values()
    for c in (usual, *(c for c in others if "pair_share" in str(c.base))):
        again = computed(stage, toy(dict(c.base), out), c.steps)
        assert again == base(stage, c.base, c.steps, out), c.base


@pytest.mark.parametrize("section, name, change", cases(DRAWN))
def test_a_setting_of_what_is_learnt_from_changes_it(section, name, change, out):
    before, after = toy({}, out), toy({f"{section}.{name}": change.value}, out)
    assert sequences(section, after) != sequences(section, before)


@pytest.mark.parametrize("key, value", REFUSED.items())
def test_a_setting_that_would_change_nothing_is_refused(key, value):
    with pytest.raises(DD2Error, match=key.replace(".", r"\.")):
        config(f"{key}={value}")


def test_every_setting_of_every_stage_has_an_entry():
    usual, missing = Config(), []
    sections = {f.name for f in dataclasses.fields(Config)
                if isinstance(getattr(usual, f.name), Stage)} | {"head", *DRAWN}
    assert sections == CHANGES.keys() | DRAWN.keys()
    for stage in sections:
        own = {f"{stage}.{f.name}" for f in dataclasses.fields(getattr(usual, stage))}
        known = [f"{stage}.{name}" for name in {**CHANGES, **DRAWN}[stage]]
        known += [k for k in (*NOTHING, *REFUSED, *ELSEWHERE) if k.startswith(f"{stage}.")]
        known += [f"{stage}.{name}" for name in CALM if f"{stage}.{name}" in own]
        assert len(known) == len(set(known)), "a setting stands in two tables"
        missing += sorted(own ^ set(known))
    assert not missing, f"no entry here, or no such setting: {missing}"
    assert set(ELSEWHERE.values()) <= globals().keys()


def test_the_discriminator_has_as_many_blocks_as_are_asked_for():
    teacher, cfg = tiny.teacher(depth=3), config("tune.adversarial=1")
    for asked, found in ((None, 3), (2, 2), (3, 3)):
        cfg.tune.adversarial_depth = asked
        assert len(new_discriminator(cfg, teacher, cfg.tune).backbone.blocks) == found
    cfg.tune.adversarial_depth = 4
    with pytest.raises(DD2Error, match="adversarial_depth=4 must be .* the teacher's 3"):
        new_discriminator(cfg, teacher, cfg.tune)


def test_the_generator_has_the_first_blocks_of_a_deeper_network(tmp_path):
    teacher, cfg = tiny.teacher(depth=3), config("head.generator_depth=2")
    deep, path = tiny.score_model(teacher, 4), tmp_path / "generator.safetensors"
    cfg.head.width, cfg.head.depth = 16, 2
    write_tensors(path, deep.state_dict())
    found = load_generator(cfg, teacher, path, False).state_dict()
    own = deep.state_dict()
    assert {k for k in own if ".blocks.2." in k} == own.keys() - found.keys()
    assert all(torch.equal(a, own[k]) for k, a in found.items())
    write_tensors(path, found)  # one that is as shallow already
    assert load_generator(cfg, teacher, path, False).state_dict().keys() == found.keys()
    cfg.head.generator_depth = 3  # it has too few
    with pytest.raises(DD2Error, match="does not fit this model"):
        load_generator(cfg, teacher, path, False)
    cfg.head.generator_depth = 4
    with pytest.raises(DD2Error, match=r"head\.generator_depth=4 must be .* the teacher's 3"):
        load_generator(cfg, teacher, path, False)


@pytest.mark.parametrize("stage", ["csd", "tune"])
def test_a_part_of_what_the_generator_began_as_is_kept(stage, tmp_path):
    kept, folder = {}, tmp_path / stage
    for share in (0.0, 0.25):
        cfg = toy({f"{stage}.start_share": share}, tmp_path)
        with counted():
            torch.manual_seed(0)
            made = job(stage, cfg)
            state = made.networks["generator"].state_dict()
            write_tensors(tmp_path / "gts" / "generator.safetensors",
                          {k: torch.full_like(a, 2.0) for k, a in state.items()})
            made.finish(folder)
        kept[share] = read_tensors(folder / "generator.safetensors")
    for k, a in kept[0.0].items():
        torch.testing.assert_close(kept[0.25][k], 0.75 * a + 0.5, rtol=1e-2, atol=2e-3)
    with pytest.raises(DD2Error, match=rf"{stage}\.start_share needs a generator that was trained"):
        config(f"{stage}.start_share=0.5", f"{stage}.generator_from_teacher=true")


def test_a_tokenizer_begins_from_a_file(out):
    cfg = toy({}, out)
    torch.manual_seed(1)
    write_tensors(out / "first.safetensors", new_tokenizer(cfg).state_dict())
    cfg.tokenizer.init = str(out / "first.safetensors")
    begun = computed("tokenizer", cfg)["weights"]
    assert begun != base("tokenizer", (), 2, out)["weights"]
    cfg.tokenizer.decoder_only = True
    assert computed("tokenizer", cfg)["weights"] != begun


def test_the_perceptual_term_looks_with_the_net_that_is_named(out):
    words = {"tokenizer.perceptual": 0.5, "tokenizer.perceptual_net": str(out / "vgg.pth")}
    with pytest.raises(DD2Error, match=r"vgg\.pth is missing"):
        computed("tokenizer", toy(words, out))
