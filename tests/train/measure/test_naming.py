"""Which table a measurement goes to, and what it is called there."""

import pytest

from dd2core.results.schema import TABLES
from dd2core.sampling import Sampling
from train.measure.naming import names_of
from train.settings.schema import Evaluate

SAMPLING = Sampling(cfg=1.5)


def names(**settings) -> tuple[str, str, str, str]:
    fields = names_of(Evaluate(**settings), SAMPLING)
    return fields["method"], fields["note"], fields["table"], fields["tag"]


@pytest.mark.parametrize(("settings", "expected"), [
    ({"sampler": "one_step"}, ("one_step", "", "quality", "one_step")),
    ({"sampler": "teacher"}, ("teacher", "", "quality", "teacher")),
    ({"sampler": "tokenizer", "tag": "floor"}, ("tokenizer", "floor", "quality", "floor")),
    ({"sampler": "teacher", "cfg": 1.5, "tag": "t"}, ("teacher", "guidance 1.5", "guidance", "t")),
    ({"sampler": "refine", "start": 0}, ("refine", "from step 0", "refine", "refine")),
    ({"sampler": "one_step", "cfg": 2.0}, ("one_step", "", "quality", "one_step")),
])
def test_the_sampler_says_it(settings, expected):
    assert names(**settings) == expected


def test_other_weights_are_an_estimate_on_the_way_unless_named():
    assert names(weights="w", tag="ema") == ("one_step", "ema", "tried", "ema")
    assert names(weights="w", tag="dd1", method="dd1") == ("dd1", "", "quality", "dd1")
    assert names(weights="w", tag="a", method="dd1", note="rate 3") == (
        "dd1", "rate 3", "quality", "a")


def test_dd1_in_two_steps_is_a_method_of_its_own_whatever_its_weights():
    two = {"sampler": "dd1_two_steps", "weights": "w"}
    assert names(**two) == ("dd1_two_steps", "", "quality", "dd1_two_steps")
    assert names(**two, method="dd1") == names(**two)
    assert names(**two, method="m", tag="t") == ("m", "t", "quality", "t")


@pytest.mark.parametrize("table", TABLES)
def test_what_is_set_is_taken(table):
    assert names(sampler="refine", table=table, method="m", note="", tag="t") == (
        "m", "", table, "t")
