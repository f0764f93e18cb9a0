"""Numbers that cannot be: one sentence that names the setting, at every command."""

import pytest

from dd2core.errors import DD2Error
from tests.harness.damage import is_sentence
from tests.support.train_helpers import cli, snapshot
from train.settings.cli import load_config
from train.settings.ranges import RANGES, numbers
from train.settings.schema import Config

WRONG = [
    "gts.lr=nan", "csd.lr=inf", "csd.lr=-1", "csd.lr_guidance=-0.1", "tokenizer.l1=-1",
    "csd.average=[1]", "csd.average=[6,4]", "csd.average=[4,99]", "csd.average=[5,5]",
    "csd.grid_every=0", "csd.pair_weight=-1", "csd.pair_share=1.5", "gts.ema=1", "gts.beta2=1",
    "gts.clip=0", "gts.t_min=0", "gts.t_max=0.01", "csd.omega_min=0", "warm.sharpness=0",
    "dd1.second_share=1.5", "dd1.second_share=-0.5", "dd1.second_start=0",
    "warm.pairs=0", "dd1.euler_steps=0", "head.width=0", "head.t_init=1.5", "teacher.heads=0",
    "teacher.class_dropout=2", "channels=0", "image_size=-28", "processes=0", "seed=-1",
    "warm.steps=-1", "resume=maybe", "name=../../x", "dd1.name=a/b", "warm.name=..",
    "evaluate.tag=/tmp/x", "evaluate.tag=",
]


@pytest.mark.parametrize("word", [w for w in WRONG if not w.endswith("=")])
def test_a_number_or_name_that_cannot_be_is_one_sentence(word):
    with pytest.raises(DD2Error) as error:
        load_config(["preset=tiny", word])
    assert word.partition("=")[0].rpartition(".")[2] in str(error.value)
    assert is_sentence(str(error.value))


@pytest.mark.parametrize("stage", ["tokenizer", "classifier", "teacher", "tokens", "gts", "warm",
                                   "csd", "tune", "dd1", "export", "evaluate", "benchmark",
                                   "movie", "report", "all"])
def test_every_command_refuses_it_before_it_does_anything(stage, tmp_path):
    stopped = cli(stage, "preset=tiny", f"out={tmp_path}", "gts.lr=nan")
    assert stopped == "error: gts.lr=nan must be a finite number of at least 0."
    assert snapshot(tmp_path) == {}


def test_every_number_has_a_range():
    cfg = load_config(["preset=tiny"])
    assert {key.rpartition(".")[2] for part in (cfg, Config()) for key, _ in numbers(part)} <= (
        set(RANGES))
