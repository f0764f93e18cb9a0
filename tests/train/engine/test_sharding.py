"""Sharding: the same training, each of two processes with a part of everything."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from dd2core.store.files import load_strict, read_tensors
from dd2core.store.state import load_state
from tests.support import tiny
from tests.support.forked import forked
from tests.support.train_helpers import config, grey, log_steps
from train.engine import distributed, loop, sharding
from train.engine.assemble import load_teacher, new_score_model
from train.engine.record.meter import TIMES

CPU = torch.device("cpu")
STAGES = {"llamagen": ("teacher", "gts", "warm", "csd"), "var": ("gts", "csd")}
WORDS = {  # a token table, whose Linear(C, D) has no gradient in every other step; both forms
    "llamagen": ("teacher.token_input=table", "csd.form=sid", "csd.guidance_steps=2",
                 "csd.adversarial=0.5", "csd.adversarial_depth=1"),
    "var": ("family=var", "tokenizer.patch_nums=[1,2,4]", "sampling.cfg=1.0",
            "csd.start=gts", "csd.pair_share=0"),
}
FILES = {"teacher": ["teacher"], "gts": ["generator"], "warm": ["generator"],
         "csd": ["generator", "guidance", "generator-000002", "generator-000006"]}

# The folder `whole` holds each stage without sharding; a folder named like a stage holds that stage
# with it; `joined` and `divided` change over after three steps of csd.


def numbers(tensors) -> tuple[int, int]:
    """How many this process holds, and how many there are."""
    own = [a.to_local() if isinstance(a, DTensor) else a for a in tensors]
    return sum(a.numel() for a in own), sum(a.numel() for a in tensors)


def check(job, shard: bool) -> None:
    """Parameters, averages, moments and the teacher are divided, if they are to be."""
    modules = list(job.networks.values())
    if hasattr(job, "teacher"):
        modules.append(job.teacher.transformer)
    for tensors in [*(list(m.parameters()) for m in modules),
                    *([a for s in o.state.values() for k, a in s.items() if k != "step"]
                      for o in job.optimizers.values())]:
        mine, everyones = numbers(tensors)
        assert mine < 0.6 * everyones if shard else mine == everyones, (mine, everyones)


def train(out: Path, family: str, stage: str, folder: str, shard: bool, until=None) -> None:
    """A stage in both processes, stopped in step `until`."""
    seeded_step = loop.seeded_step

    def step(cfg, job, i, stage):
        if i == until:
            raise KeyboardInterrupt
        metrics = seeded_step(cfg, job, i, stage)
        check(job, shard)
        return metrics

    loop.seeded_step = step
    said = grey(stage, out / folder, *WORDS[family], f"shard={shard}")
    loop.seeded_step = seeded_step
    assert (said is None) == (until is None), said
    dist.barrier()


def work(rank: int, out: Path, family: str) -> None:
    """All runs of a family, in one of two processes."""
    dist.init_process_group("gloo", timeout=timedelta(minutes=5))  # a dead-lock is an error by then
    distributed.start(CPU)

    def copy(*folders: str) -> None:
        for folder in folders if rank == 0 else ():
            shutil.copytree(out / "whole", out / folder)
        dist.barrier()

    for stage in STAGES[family]:
        copy(stage, *(("joined", "divided") if stage == "csd" else ()))
        train(out, family, stage, "whole", False)
        train(out, family, stage, stage, True)
    for folder, first in (("joined", True), ("divided", False)):
        train(out, family, "csd", folder, first, until=4)
        train(out, family, "csd", folder, not first)


@pytest.fixture(scope="module", params=WORDS)
def runs(request, tmp_path_factory) -> tuple[Path, str]:
    """The folder of the runs of one family, and its name."""
    family, out = request.param, tmp_path_factory.mktemp(request.param)
    for stage in ("tokenizer", "teacher"):
        if stage not in STAGES[family]:
            assert grey(stage, out / "whole", *WORDS[family]) is None
    for code, said in forked(out, work, out, family):
        assert code == 0, said
    return out, family


def assert_same_state(a: Path, b: Path) -> None:
    """Two stages ended in the same state, up to the rounding of a gradient norm.

    Adam divides it by itself where a gradient is nearly nothing: one weight in thousands was seen
    4e-6 apart. With a part of the batch dropped, taken twice or given other noise, 46 to 96 % of a
    network's weights end more than 2e-5 apart, 22 to 89 % more than 1e-4. Gradients that are summed
    in place of averaged move a quarter of the teacher's beyond 2e-5, and none where the clipping
    undoes it: they are seen by nearly all of the teacher's moments, and by the norms in the logs.
    """
    left, right = load_state(a / "state.pt"), load_state(b / "state.pt")
    assert left["step"] == right["step"] == 6
    torch.testing.assert_close(left["networks"], right["networks"], rtol=1e-5, atol=2e-5)
    assert left["optimizers"].keys() == right["optimizers"].keys()
    for name, optimizer in left["optimizers"].items():
        other = right["optimizers"][name]
        assert optimizer["param_groups"] == other["param_groups"]
        torch.testing.assert_close(optimizer["state"], other["state"], rtol=1e-5, atol=1e-6)


def metrics(folder: Path) -> list[dict]:
    """The lines of a log, without times and rates."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", *TIMES)} for line in lines]


def test_sharded_training_is_the_training(runs):
    out, family = runs
    for stage in STAGES[family]:
        whole, sharded = out / "whole" / stage, out / stage / stage
        assert_same_state(whole, sharded)
        for a, b in zip(metrics(whole), metrics(sharded), strict=True):
            assert a == pytest.approx(b, rel=1e-4), stage
        assert {p.name for p in whole.iterdir()} == {p.name for p in sharded.iterdir()}
        for name in FILES[stage]:
            a, b = (read_tensors(f / f"{name}.safetensors") for f in (whole, sharded))
            torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-4)  # most are float16


def test_a_run_goes_on_with_and_without_sharding(runs):
    out, _ = runs
    for folder in ("joined", "divided"):
        assert log_steps(out / folder / "csd") == [1, 2, 3, 4, 5, 6]
        assert_same_state(out / "whole" / "csd", out / folder / "csd")


def test_what_is_written_is_whole(runs):
    out, family = runs
    cfg = config(*WORDS[family], f"out={out / 'csd'}")
    model = new_score_model(cfg, load_teacher(cfg, CPU), False)
    for name in FILES["csd"]:
        load_strict(model, read_tensors(out / "csd" / "csd" / f"{name}.safetensors"), name)
    state = load_state(out / "csd" / "csd" / "state.pt")
    load_strict(model, state["networks"]["generator"], "state.pt")
    moments = [s["exp_avg"].shape for s in state["optimizers"]["guidance"]["state"].values()]
    assert max(model.parameters(), key=torch.numel).shape in moments


def test_one_process_has_nothing_to_divide(teacher):
    cfg, model = config("shard=true"), tiny.score_model(teacher)
    before = list(model.parameters())
    sharding.shard(cfg, model)
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    state = {"a": [torch.ones(2)], "b": 1}
    assert sharding.takes_part(cfg) and sharding.whole(state) is state
