"""Seeds that share no stream; dry runs that write nothing; minutes that are this run's."""

import itertools
import json

import pytest
import torch

from dd2core.noise import gaussians, sample_seeds, stream_seed
from tests.support import tiny
from tests.support.train_helpers import cli, config, snapshot
from train import benchmark, evaluate
from train.measure.sample import batch_seed
from train.settings.schema import Benchmark


def test_seeds_purposes_and_batches_share_no_stream():
    places = itertools.product((0, 1, 2), ("evaluate", "pairs", "step of csd"), range(40))
    starts = [stream_seed(seed, purpose, i) for seed, purpose, i in places]
    streams = [s for start in starts for s in sample_seeds(8, start)]
    assert len(set(streams)) == len(streams)
    assert all(0 <= s < 2**63 - 1 for s in starts)


def test_evaluations_of_two_seeds_share_no_stream():
    streams = {seed: {s for i in range(40) for s in sample_seeds(256, batch_seed(seed, i))}
               for seed in (0, 1)}
    assert len(streams[0]) == len(streams[1]) == 10_240 and not streams[0] & streams[1]


def test_the_place_is_no_part_of_the_purpose():
    assert stream_seed(1, "a", 2) == stream_seed(1, "a", 2)
    assert len({stream_seed(1, "a", 2), stream_seed(1, "a", 2, 0), stream_seed(12, "a"),
                stream_seed(1, "a"), stream_seed(2, "a", 1)}) == 5


def test_public_latents_are_what_they_were():
    """Shipped pictures hang on them."""
    expected = torch.randn(3, 2, generator=torch.Generator().manual_seed(
        sample_seeds(5, 7)[4] + 1))
    assert torch.equal(gaussians(5, 3, 2, 7)[4], expected)
    assert sample_seeds(2, 0)[0] == 0 and sample_seeds(2, 0)[1] == (
        0xD1B54A32D192ED03 % (2**63 - 1))


@pytest.mark.parametrize("command", ["evaluate", "movie", "report"])
def test_commands_that_measure_honour_the_dry_run(command, tmp_path, capsys):
    from train.settings.cli import ROOT

    files = [ROOT / "README.md", *(ROOT / "assets" / "fashion-llamagen").rglob("*")]
    before = {p: p.stat().st_mtime_ns for p in files}
    assert cli(command, "preset=fashion-llamagen", f"out={tmp_path / 'x'}", "dry_run=true") is None
    assert "dry run, nothing written" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in files} == before and snapshot(tmp_path) == {}


def test_training_minutes_of_another_model_are_not_this_runs(tmp_path):
    run = tmp_path / "run"
    for stage in ("gts", "csd"):
        (run / stage).mkdir(parents=True)
        (run / stage / "log.jsonl").write_text(json.dumps({"step": 6, "seconds": 60.0}) + "\n")
    (run / "csd" / "generator.safetensors").write_bytes(b"ours")
    words = [f"out={run}", "evaluate.sampler=one_step", "csd.start=gts", "tune.steps=0"]
    own, other = tmp_path / "own", tmp_path / "other"
    for folder, data in ((own, b"ours"), (other, b"theirs")):
        folder.mkdir()
        (folder / "generator.safetensors").write_bytes(data)
    assert evaluate.training_minutes(config(*words), own) == 2
    assert evaluate.training_minutes(config(*words), other) is None
    weights = f"evaluate.weights={other / 'generator.safetensors'}"
    assert evaluate.training_minutes(config(*words, weights), own) is None


def test_refining_from_the_last_step_on_is_timed(tiny_pipe):
    last = tiny_pipe.teacher.num_steps
    o = Benchmark(batches=[1], repeats=1, starts=[last], thread_counts=[1])
    found = benchmark.samplers(tiny_pipe, o, 2, 0)
    assert torch.equal(found[f"refine_{last}"](), found["one_step"]())
    assert tiny.CLASSES
