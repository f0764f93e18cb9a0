"""The presets with the paper's recipe: their numbers, and real steps of each at tiny sizes."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from dd2core.sampling import Sampling
from dd2core.store.folder import save_folder
from dd2core.store.state import load_state
from tests.support import tiny, tiny_var
from tests.support.forked import forked
from tests.support.train_helpers import PICTURES, cli
from train.engine import distributed
from train.engine.assemble import new_score_model
from train.measure import cost
from train.settings.cli import load_config

TOTALS = {"var-d16": 329e6, "var-d20": 619e6, "var-d24": 1.04e9, "llamagen-l": 335e6}  # Tab. 1
TEACHERS = {"var-d16": 310e6, "var-d20": 600e6, "var-d24": 1.03e9, "llamagen-l": 343e6}
SMALL = ("fashion-llamagen-paper", "fashion-var-paper")
VAR = ("var-d16", "var-d20", "var-d24")

# Tab. 10: rate, batch, passes, steps of the head alone, of everything.
GTS = {"var-d16": (2e-4, 512, 4, 300_000, 30_000), "var-d20": (2e-4, 512, 8, 300_000, 30_000),
       "var-d24": (2e-4, 512, 16, 200_000, 30_000), "llamagen-l": (1e-4, 512, 4, 0, 100_000)}
# Tab. 11: rates of ψ and G, batch, passes, ψ before, in and after the alignment, G before, after.
CSD = {"var-d16": (2e-4, 2e-4, 512, 4, (40_000, 8_000, 15_000), (8_000, 7_500)),
       "var-d20": (2e-4, 2e-4, 512, 8, (80_000, 8_000, 36_000), (16_000, 18_000)),
       "var-d24": (4e-4, 5e-5, 1024, 32, (30_000, 0, 0), (15_000, 0)),
       "llamagen-l": (2e-4, 1e-4, 1024, 8, (60_000, 0, 0), (12_000, 0))}


@pytest.mark.parametrize("name", TOTALS)
def test_generators_have_the_papers_parameters(name):
    cfg = load_config([f"preset={name}"])
    teacher = cost.build_teacher(cfg)
    with torch.device("meta"):
        model = new_score_model(cfg, teacher, False)
    assert cost.count(model) == pytest.approx(TOTALS[name], rel=0.02)
    assert 10e6 <= cost.count(model.head) <= 20.5e6
    cfg.adapt.steps = 0  # before the table becomes an MLP
    assert cost.count(cost.build_teacher(cfg).transformer) == pytest.approx(
        TEACHERS[name], rel=0.005)


def psi_and_g(o) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Steps of ψ before, in and after the alignment; of G before and after."""
    at = o.steps if o.align_at is None else o.align_at
    after = o.steps - at - o.align_steps
    r = o.guidance_steps
    return (at * r, o.align_steps * r, after * (o.guidance_steps_after or r)), (at, after)


@pytest.mark.parametrize("name", TOTALS)
def test_presets_have_the_numbers_of_tables_10_and_11(name):
    cfg = load_config([f"preset={name}"])
    g, c = cfg.gts, cfg.csd
    assert (g.lr, g.batch, g.accumulate, g.head_steps, g.steps - g.head_steps) == GTS[name]
    assert (c.lr_guidance, c.lr, c.batch, c.accumulate, *psi_and_g(c)) == CSD[name]
    assert c.warmup_guidance == (20_000 if name == "var-d24" else 40_000)
    assert (c.ema, c.ema_warmup) == (0.9999, 9.0) and c.ema_first > 0


@pytest.mark.parametrize("name", [*TOTALS, *SMALL])
def test_presets_have_the_eleven_points(name):
    """The eleven points of the recipe table in docs/method.md, by our option for each."""
    cfg = load_config([f"preset={name}"])
    g, c, var = cfg.gts, cfg.csd, name in VAR
    if name not in SMALL:
        assert (cfg.adapt.steps > 0) is not var  # 1
        inside = Sampling(2.0, top_k=900, top_p=0.95) if var else Sampling(2.0, top_k=8000)
        assert g.sampling == c.sampling == inside  # 3
        assert cfg.samples.sampling == cfg.sampling and cfg.sampling != inside
    assert g.data == "samples"  # 2
    assert (cfg.head.prediction, cfg.head.t_init) == ("velocity", 1.0)  # 4
    assert g.weighting == c.weighting == "velocity"
    assert (c.form, c.alpha) == ("sid", 1.0)  # 5
    assert (c.start, cfg.warm.steps, c.pair_share) == ("gts", 0, 0)
    assert (c.fcs_times or c.times) > 1  # 6
    assert c.fresh and c.guidance_steps == (2 if name == "var-d24" else 5)  # 7
    aligned = name in ("var-d16", "var-d20", "fashion-var-paper")
    assert (c.align_at is not None) == aligned and c.guidance_steps_after == (
        2 if aligned else None)  # 8
    assert (g.head_steps > 0) == ("var" in name)  # 9
    assert c.ema_first > 0 and (c.ema, c.ema_warmup) == (0.9999, 9.0)  # 10
    assert c.lr_start == 1e-6 and c.warmup_guidance > 0 and c.lr_final == 1.0  # 11
    assert (g.beta1, g.beta2) == (c.beta1, c.beta2) == (0.9, 0.95)


@pytest.mark.parametrize("small, large", [
    ("fashion-llamagen-paper", "llamagen-l"), ("fashion-var-paper", "var-d20")])
def test_the_small_recipes_keep_the_papers_proportions(small, large):
    a, b = (load_config([f"preset={name}"]) for name in (small, large))
    assert a.gts.batch / a.csd.batch == b.gts.batch / b.csd.batch
    assert a.csd.lr / a.csd.lr_guidance == b.csd.lr / b.csd.lr_guidance
    assert a.gts.lr / a.csd.lr == pytest.approx(b.gts.lr / b.csd.lr)
    assert a.gts.head_steps / a.gts.steps == pytest.approx(b.gts.head_steps / b.gts.steps, rel=0.01)
    (psi, g), (psi_b, g_b) = psi_and_g(a.csd), psi_and_g(b.csd)
    for x, y in zip((*psi, *g, a.csd.warmup_guidance), (*psi_b, *g_b, b.csd.warmup_guidance),
                    strict=True):
        assert x / sum(psi) == pytest.approx(y / sum(psi_b), rel=0.02)


# Real steps --------------------------------------------------------------------------------------

SHRUNK = (f"data={PICTURES}", "image_size=16", "channels=1", "shard=false", "processes=1",
          "device=cpu", "threads=1", "teacher.input_hidden=16", "head.width=16", "head.depth=1",
          "samples.n=20", "samples.batch=8", "samples.bf16=false", "adapt_fit.steps=2",
          "adapt.steps=1", "adapt.batch=8", "adapt.accumulate=2", "gts.batch=8",
          "gts.accumulate=2", "csd.batch=8", "csd.accumulate=2", "csd.grid_every=0",
          "csd.ema_first=1")

RUN = ("var-d16", "var-d24", "llamagen-l", *SMALL)  # var-d20 is var-d16 then, see below


def phases(name: str) -> tuple[str, ...]:
    """One step of each kind that the preset has."""
    gts = ("gts.head_steps=1", "gts.steps=2") if "var" in name else ("gts.steps=1",)
    if load_config([f"preset={name}"]).csd.align_at is None:
        return (*gts, "csd.steps=1")
    return (*gts, "csd.align_at=1", "csd.align_steps=1", "csd.steps=3")


def work(rank: int, out: Path) -> None:
    """The stages of every recipe, in one of two processes."""
    distributed.start(torch.device("cpu"))
    backward, passes = torch.Tensor.backward, []
    torch.Tensor.backward = lambda self, *a, **k: passes.append(self) or backward(self, *a, **k)
    for name in RUN:
        words = [f"preset={name}", *SHRUNK, *phases(name), f"out={out / name}",
                 f"base={out / load_config([f'preset={name}']).family}"]
        if name != "llamagen-l":
            words.append("adapt.steps=0")
        for stage in ("adapt", "gts", "csd"):
            passes.clear()
            said = cli(stage, *words)
            assert said is None, (name, stage, said)
            (out / f"{name}-{stage}-{rank}").write_text(str(len(passes)))
            dist.barrier()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A step of each kind of every recipe, in two processes and two passes."""
    out = tmp_path_factory.mktemp("recipes")
    model = tiny.model()
    table = tiny.teacher("table")
    for name, teacher in (("llamagen", table), ("var", tiny_var.teacher())):
        save_folder(out / name, type(model)(name, name, ["cross", "disc", "frame"], Sampling(1.5),
                                            teacher, None, None, 16))
    for code, said in forked(out, work, out):
        assert code == 0, said
    return out


def taken(state: dict, name: str) -> set[int]:
    """How many steps an optimiser has taken, by its moments."""
    return {int(s["step"]) for s in state["optimizers"][name]["state"].values()}


def test_shrunk_var_d20_is_shrunk_var_d16():
    one, other = (load_config([f"preset={name}", *SHRUNK, *phases(name)])
                  for name in ("var-d16", "var-d20"))
    assert (one.gts, one.csd, one.head) == (other.gts, other.csd, other.head)


@pytest.mark.parametrize("name", RUN)
def test_each_recipe_takes_its_steps_in_two_processes_and_two_passes(name, runs):
    cfg = load_config([f"preset={name}"])
    aligned, r = cfg.csd.align_at is not None, cfg.csd.guidance_steps
    gts, csd = (load_state(runs / name / stage / "state.pt") for stage in ("gts", "csd"))
    # The head learns in all steps, the rest not in those of the head alone.
    assert taken(gts, "model") == ({1, 2} if "var" in name else {1})
    assert taken(csd, "guidance") == {r + r + 2 if aligned else r}
    assert taken(csd, "generator") == {1}  # forgotten at the alignment
    updates = {"gts": max(taken(gts, "model")),
               "csd": max(taken(csd, "guidance")) + (2 if aligned else 1)}
    for stage, rank in itertools.product(updates, (0, 1)):  # two passes in each of two processes
        assert int((runs / f"{name}-{stage}-{rank}").read_text()) == 2 * updates[stage]
    assert (runs / name / "adapt" / "config.json").exists() == (name == "llamagen-l")
    first, last = (load_state(runs / name / stage / "state.pt")["networks"][part]
                   for stage, part in (("gts", "ema"), ("csd", "generator")))
    moved = [k for k, a in last.items() if not torch.equal(a, first[f"module.{k}"])]
    assert "head.out.weight" in moved
    assert all(a.isfinite().all() for a in last.values())
