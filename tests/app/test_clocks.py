"""Clocks that treat both samplers alike, tickets of comparisons, models that hold nobody up."""

import threading

import gradio as gr
import numpy as np
import pytest

from app.html import present
from app.serve import clocks, models
from app.serve.clocks import Reading, in_turns, summary
from app.serve.models import Models
from app.serve.runs import Run, speedup
from app.serve.tickets import MOST_VISITORS, Tickets
from dd2core import Pipeline
from tests.support import tiny


def run(seconds: float, steps: int = 1, **more) -> Run:
    images, times = np.zeros((0, 8, 8, 1), np.uint8), (0.75 * seconds, 0.25 * seconds, 1.0)
    return Run(images, steps, steps, steps, *times, 1, **more)


@pytest.mark.parametrize("slow", [0.02, 0.1, 0.4, 2.0])
def test_both_samplers_are_measured_for_the_same_time_in_turns(slow):
    order = []

    def sampler(name, seconds):
        return lambda: order.append((name, seconds)) or Reading(seconds, 0.0)

    *_, taken = in_turns(sampler("one", 0.02), sampler("two", slow), least=clocks.LEAST)
    spent = [sum(r.seconds for r in readings) for readings in taken]
    assert min(spent) >= clocks.BUDGET and min(map(len, taken)) >= clocks.LEAST
    used = {"one": 0.0, "two": 0.0}
    for name, seconds in order:
        other = used["two" if name == "one" else "one"]
        assert used[name] <= other + 1e-9 or other >= clocks.BUDGET  # the one behind is next
        used[name] += seconds


def test_readings_of_before_count_until_newer_ones_take_their_place(monkeypatch):
    monkeypatch.setattr(clocks, "KEPT", 0.5)
    monkeypatch.setattr(clocks, "BUDGET", 0.3)
    monkeypatch.setattr(clocks, "NEW", 0.1)
    known, asked = clocks.Readings(), ("8 images", 1.25)
    assert known.of(asked) == [[], []]

    def click(seconds: float) -> list[int]:
        """A comparison whose readings take that long: how many of each were new."""
        new = [0, 0]

        def sampler(which):
            new[which] += 1
            return Reading(seconds, 0.0)

        *_, taken = in_turns(lambda: sampler(0), lambda: sampler(1), least=3, taken=known.of(asked))
        known.keep(asked, taken)
        return new

    assert click(0.01) == [30, 30]
    assert click(0.02) == [5, 5]  # the budget is there already: a tenth of a second of new ones
    assert [len(readings) for readings in known.of(asked)] == [35, 35]
    assert click(0.05) == [3, 3]
    for _ in range(10):
        click(0.02)
    assert {r.seconds for r in known.of(asked)[1]} == {0.02}  # half a second: none of the first
    assert sum(r.seconds for r in known.of(asked)[0]) == pytest.approx(0.5, abs=0.02)
    assert known.of(("8 images", 3.0)) == [[], []]


def test_old_readings_and_settings_nobody_asks_for_are_forgotten(monkeypatch):
    known = clocks.Readings()
    for i in range(clocks.MOST + 3):
        known.keep(i, [[Reading(1.0, 0.0)], [Reading(2.0, 0.0)]])
    assert known.of(2) == [[], []] and known.of(3)[1] == [Reading(2.0, 0.0)]
    monkeypatch.setattr(clocks.time, "monotonic", lambda: 1e9)
    assert known.of(3) == [[], []]


def test_the_median_and_where_half_of_the_readings_lie():
    clock = summary([Reading(s, 1.0) for s in (9.0, 1.0, 2.0, 3.0, 4.0)])
    assert clock.median == Reading(3.0, 1.0) and clock.readings == 5
    assert (clock.low, clock.high) == (3.0, 5.0)  # an outlier moves nothing
    assert summary([Reading(1.0, 2.0)]) == clocks.Clock(Reading(1.0, 2.0), 3.0, 3.0, 1)


def test_the_ratio_lies_in_its_spread_and_waits_for_both_clocks():
    one, teacher = run(0.1), run(0.9, 49)
    assert set(speedup(one, teacher).values()) == {None}  # finished, and not yet measured
    quick, slow = (summary([Reading(s * k, 0.0) for k in (0.8, 1.0, 1.1, 1.2, 3.0)])
                   for s in (0.1, 1.0))
    ratio = speedup(one.measured(quick), teacher.measured(slow))
    assert ratio["speedup_low"] < ratio["speedup"] < ratio["speedup_high"]
    assert ratio["speedup"] == pytest.approx(10)
    shown = present.panel("Teacher", 49, teacher.measured(slow), [])
    assert f'dd2-clock">{present.duration(0.9)}<' in shown  # that clock stays
    assert f"without previews: <b>{present.duration(1.1)}<" in shown
    late = run(clocks.UNSEEN + 1, 49)
    assert late.final and speedup(one, late)["speedup"] == pytest.approx(late.seconds / 0.1)


def test_a_new_comparison_ends_the_older_one_and_stop_ends_it_once():
    tickets = Tickets()
    first, second = tickets.take("a"), tickets.take("a")
    other = tickets.take("b")
    assert [tickets.holds("a", t) for t in (first, second)] == [False, True]
    tickets.finish("a", first)  # a late end of the older one changes nothing
    assert tickets.stop("a") and not tickets.stop("a") and not tickets.holds("a", second)
    tickets.finish("b", other)
    assert tickets.holds("b", other) and not tickets.stop("b")  # nothing runs: nothing is stopped
    for i in range(2 * MOST_VISITORS):
        tickets.take(f"visitor {i}")
    assert len(tickets._last) == len(tickets._running) == MOST_VISITORS


def test_loading_a_model_holds_nobody_else_up(monkeypatch):
    pipe = Pipeline(tiny.model())
    offered = Models.of(pipe)
    offered.names.append("large")
    offered._loading["large"] = threading.Lock()
    began, go_on, got = threading.Event(), threading.Event(), []

    def load(*_, **__):
        began.set()
        assert go_on.wait(10)
        return pipe

    monkeypatch.setattr(models, "load_pipeline", load)
    loading = [threading.Thread(target=lambda: got.append(offered.get("large"))) for _ in "ab"]
    for thread in loading:
        thread.start()
    assert began.wait(10)
    quick = threading.Thread(target=lambda: got.append(offered.get(pipe.name)))
    quick.start()
    quick.join(5)
    assert len(got) == 1 and not quick.is_alive()
    go_on.set()
    for thread in loading:
        thread.join(10)
    assert got[1] is got[2]  # loaded once
    with pytest.raises(gr.Error, match="Unknown model"):
        offered.get("other")
