"""What the jobs of gts, csd and dd1 make of their settings, step by step, on tiny networks."""

import pytest
import torch

from dd2core import baselines
from dd2core.families.codebook import CodebookScore
from dd2core.gts import gts_step_loss
from dd2core.losses import csd_loss, csd_loss_sid
from dd2core.noise import WHOLE
from dd2core.sampling import Sampling
from dd2core.store import names
from dd2core.store.files import read_tensors, write_tensors
from tests.support import tiny
from tests.support.train_helpers import config
from train import csd as csd_stage
from train import dd1 as dd1_stage
from train import gts as gts_stage
from train.csd import CSDJob, mean_of_snapshots
from train.data.batches import batch_indices
from train.data.tokens import TokenData
from train.dd1 import DD1Job, load_pairs, pair_latents
from train.engine import optim
from train.gts import GTSJob

WORDS = ("csd.batch=6", "gts.batch=6", "csd.steps=10", "gts.steps=10", "csd.warmup=1",
         "csd.start=gts", "csd.pair_share=0", "csd.guidance_first=0",
         "csd.lr=0.001", "csd.lr_guidance=0.005")


@pytest.fixture
def data():
    tokens, labels = torch.randint(32, (30, 16)), torch.arange(30) % 3
    return TokenData(tokens, labels, tokens[:6], labels[:6])


@pytest.fixture
def job(data, monkeypatch):
    """Makes the job of the stage csd on a tiny teacher, with random networks in place of files."""
    teacher = tiny.teacher()
    for name in ("load_score_model", "load_generator"):
        monkeypatch.setattr(csd_stage, name,
                            lambda cfg, teacher, path, bf16: tiny.score_model(teacher, 1))
    return lambda *words: CSDJob(config(*WORDS, *words), teacher, data, config(*WORDS, *words).csd)


def weights(module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def moved(module, before) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def test_the_generator_stands_still_while_guidance_first_lasts(job):
    j, stands = job("csd.guidance_first=2"), []
    for i in range(4):
        before, other = weights(j.trainer.generator), weights(j.trainer.guidance)
        j.step(i)
        stands.append(not moved(j.trainer.generator, before))
        assert moved(j.trainer.guidance, other)
    assert stands == [True, True, False, False]


@pytest.mark.parametrize("i", [0, 3, 9])
def test_each_network_has_its_own_learning_rate(job, i):
    j = job("csd.lr_final=0.1")
    j.step(i)
    share = optim.schedule(i, j.opts)
    for network, lr in ((j.trainer.generator, 0.001), (j.trainer.guidance, 0.005)):
        groups = j.trainer.optimizers[network].param_groups
        assert {g["lr"] for g in groups} == {lr * share}


def test_labels_and_latents_of_a_step_follow_its_number(job, monkeypatch):
    j, seen = job(), []
    monkeypatch.setattr(j.trainer, "step",
                        lambda eps, labels, **_: seen.append((eps, labels)) or {})
    for i, seed in ((0, 0), (1, 0), (0, 0)):
        torch.manual_seed(seed)
        j.step(i)
    assert torch.equal(seen[0][1], seen[2][1]) and not torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[0][0], seen[2][0])


def test_every_other_step_of_gts_gives_the_prefix_as_vectors(data, monkeypatch):
    teacher = tiny.teacher("table")
    monkeypatch.setattr(gts_stage, "new_score_model",
                        lambda cfg, teacher, bf16: tiny.score_model(teacher, 1))
    j = GTSJob(config(*WORDS, "gts.lr=0.01", "gts.warmup=1"), teacher, data)
    table, vectors = j.model.backbone.token_table, j.model.backbone.code_input
    for i in range(4):
        before = weights(table), weights(vectors)
        j.step(i)
        assert (moved(table, before[0]), moved(vectors, before[1])) == ((True, False), (False, True)
                                                                        )[i % 2]


@pytest.mark.parametrize("alpha, omega_min", [(1.0, 0.05), (0.5, 0.05), (1.0, 3.0)])
def test_alpha_and_omega_min_of_the_settings_reach_the_loss(job, alpha, omega_min):
    j = job("csd.form=sid", f"csd.alpha={alpha}", f"csd.omega_min={omega_min}")
    o = j.trainer.o
    assert (o.form, o.alpha, o.omega_min) == ("sid", alpha, omega_min)
    x, eps = torch.randn(2, 3, 4), torch.randn(1, 2, 3, 4)
    t = torch.rand(1, 2, 3, 1)
    problem = (lambda a, t: 0.5 * a, lambda a, t: 0.2 * a + 0.1, x, eps, t)
    assert torch.equal(csd_loss(*problem, o), csd_loss_sid(*problem, alpha, omega_min))
    assert len({csd_loss_sid(*problem, a, w).item()
                for a, w in ((1.0, 0.05), (0.5, 0.05), (1.0, 3.0))}) == 3


def test_pairs_in_csd_are_regressed_as_in_the_stage_warm(job):
    o = job("warm.sharpness=2.5", "warm.latent_weight=0.3").trainer.o
    assert (o.pair_sharpness, o.pair_latent_weight) == (2.5, 0.3)


@pytest.mark.parametrize("words, sampling", [
    ((), Sampling(1.5)), (("sampling.top_k=5", "sampling.cfg=2"), Sampling(2.0, top_k=5)),
    (("csd.sampling.top_p=0.7",), Sampling(1.5, top_p=0.7))])
def test_the_teacher_is_scored_under_the_settings_sampling(job, monkeypatch, words, sampling):
    j, seen = job(*words), []
    score = j.teacher.score
    monkeypatch.setattr(j.teacher, "score", lambda *a: seen.append(a[2]) or score(*a))
    numbers = j.step(0)
    assert seen == [sampling] and 0 < numbers["nll"] < 100  # finite whatever top-k excludes


def test_the_entropy_that_is_logged_is_of_the_whole_batch(job):
    found = []
    for passes in (1, 2, 3):
        torch.manual_seed(0)
        found.append(job(f"csd.accumulate={passes}").step(0)["entropy"])
    assert found[0] == found[1] == found[2] > 0
    j = job()
    torch.manual_seed(0)
    j.trainer.total = lambda counts: counts + torch.eye(len(counts), dtype=torch.int64)[0] * 10**6
    assert j.step(0)["entropy"] < 0.01  # another process met one code alone


def test_the_nll_that_is_logged_is_without_the_filters():
    teacher, labels = tiny.teacher(), torch.tensor([0, 1])
    tokens = torch.randint(32, (2, 16))
    plain = teacher.score(tokens, labels, Sampling(2.0)).statistics()["nll"]
    few = teacher.score(tokens, labels, Sampling(2.0, 0.5, 3, 0.6))
    assert isinstance(few, CodebookScore) and few.log_p.isinf().any()
    torch.testing.assert_close(few.statistics()["nll"], plain)
    log_p = teacher.log_probs(tokens, labels, cfg=2.0)
    torch.testing.assert_close(plain, -log_p.gather(-1, tokens[..., None]).mean())


def test_the_flow_of_dd1_runs_from_1_to_its_end_in_even_steps(monkeypatch):
    times = []
    mean = baselines.posterior_mean
    monkeypatch.setattr(baselines, "posterior_mean", lambda x, t, *a: times.append(
        t.flatten()[0].item()) or mean(x, t, *a))
    baselines.flow_to_token(torch.randn(5, 7).log_softmax(-1), torch.randn(5, 2),
                            torch.randn(7, 2), euler_steps=16)
    assert times == pytest.approx([1 - 0.97 * k / 16 for k in range(17)], abs=1e-6)


# Alignment and warm-up -----------------------------------------------------------------------


def test_alignment_holds_the_generator_for_its_steps_and_changes_the_steps_of_psi(job):
    j = job("csd.align_at=2", "csd.align_steps=2", "csd.guidance_steps=3",
            "csd.guidance_steps_after=1", "csd.ema=0.5")
    stands, counts = [], []
    for i in range(6):
        before, average = weights(j.trainer.generator), weights(j.trainer.ema.module)
        j.step(i)
        if i == 2:
            assert not moved(j.trainer.generator, average)  # the average went into it
        stands.append(not moved(j.trainer.generator, before))
        states = j.trainer.optimizers[j.trainer.guidance].state.values()
        counts.append(int(next(iter(states))["step"]))
    assert stands == [False, False, False, True, False, False]  # 2: by the average alone
    assert counts == [3, 6, 9, 12, 13, 14]


def test_a_warm_up_may_count_the_steps_of_psi_and_begin_above_0(job):
    j = job("csd.guidance_steps=5", "csd.warmup_guidance=40", "csd.lr_start=0.0001",
            "csd.lr_final=1", "csd.steps=100")
    lrs = []
    for i in (0, 3, 7, 20):
        assert j.prepare(i) is False
        lrs.append([j.trainer.optimizers[n].param_groups[0]["lr"]
                    for n in (j.trainer.generator, j.trainer.guidance)])
    # 5, 20, 40 and more of 40 steps of ψ, from 0.0001 up to each network's own rate
    expected = [[1e-4 + (lr - 1e-4) * w for lr in (0.001, 0.005)] for w in (1 / 8, 1 / 2, 1, 1)]
    assert lrs == [pytest.approx(row) for row in expected]


def test_gts_trains_the_head_alone_for_its_head_steps(data, monkeypatch):
    monkeypatch.setattr(gts_stage, "new_score_model",
                        lambda cfg, teacher, bf16: tiny.score_model(teacher, 1))
    j = GTSJob(config(*WORDS, "gts.head_steps=2", "gts.warmup=1"), tiny.teacher(), data)
    backbone, head = [], []
    for i in range(4):
        before = weights(j.model.backbone), weights(j.model.head)
        j.step(i)
        backbone.append(moved(j.model.backbone, before[0]))
        head.append(moved(j.model.head, before[1]))
    assert backbone == [False, False, True, True] and all(head)


def test_gts_learns_from_the_target_that_is_asked_for(data, monkeypatch):
    monkeypatch.setattr(gts_stage, "new_score_model",
                        lambda cfg, teacher, bf16: tiny.score_model(teacher, 1))
    teacher, losses = tiny.teacher(), {}
    for target in ("score", "sample"):
        torch.manual_seed(0)
        job = GTSJob(config(*WORDS, f"gts.target={target}"), teacher, data)
        torch.manual_seed(1)
        losses[target] = job.loss(0, WHOLE).item()
        torch.manual_seed(1)
        pick = batch_indices(len(data.tokens), 6, 0, 0)
        known = gts_step_loss(job.model, teacher, data.tokens[pick], data.labels[pick], job.opts,
                              target=target)
        assert losses[target] == pytest.approx(known.item(), rel=1e-6)
    assert losses["score"] != pytest.approx(losses["sample"], rel=0.05)


# Pairs ----------------------------------------------------------------------------------------


def row_of(latents: torch.Tensor, all_latents: torch.Tensor) -> int:
    """Which row of `all_latents` it is."""
    found = [k for k, eps in enumerate(all_latents) if torch.equal(latents, eps)]
    return found[0] if found else -1


def test_pairs_stand_first_in_a_batch_of_csd_with_their_latents_labels_and_tokens(job, monkeypatch):
    eps, tokens = torch.randn(20, 16, 4), torch.randint(32, (20, 16))
    pairs = {"labels": (torch.arange(20) * 7) % 3, "tokens": tokens}
    monkeypatch.setattr(csd_stage, "load_pairs", lambda *a: (pairs, 0.0))
    monkeypatch.setattr(csd_stage, "pair_latents", lambda *a: eps)
    j, labels_met = job("csd.pair_share=0.5", "csd.pair_weight=1"), set()
    for i in range(6):
        seen = []
        monkeypatch.setattr(j.trainer, "step", lambda *a, seen=seen, **o: seen.append(a) or {})
        j.step(i)
        latents, labels, targets = seen[0][:3]
        rows = [row_of(a, eps) for a in latents]
        assert len(targets) == 3 and min(rows[:3]) >= 0 and rows[3:] == [-1] * 3
        assert torch.equal(targets, tokens[rows[:3]])
        assert torch.equal(labels[:3], pairs["labels"][rows[:3]])
        labels_met |= set(labels[:3].tolist())
    assert labels_met == {0, 1, 2}


DD1_WORDS = ("dd1.pairs=10", "dd1.pair_batch=4", "dd1.euler_steps=3", "dd1.batch=4",
             "dd1.sharpness=2.5", "dd1.latent_weight=0.3")


@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_are_dd1s_map_of_the_latents_that_are_made_again(data, tmp_path, seed):
    cfg, teacher = config(*DD1_WORDS, f"out={tmp_path}", f"seed={seed}"), tiny.teacher()
    pairs, _ = load_pairs(cfg, teacher, data, cfg.dd1)
    eps = pair_latents(cfg, teacher, cfg.dd1)
    assert eps.shape == (10, 16, 4)
    expected = baselines.dd1_pairs(teacher, pairs["labels"], eps, cfg.dd1.sampling, 3)
    assert torch.equal(pairs["tokens"], expected)
    other = pair_latents(config(*DD1_WORDS, f"seed={seed + 1}"), teacher, cfg.dd1)
    assert not torch.equal(eps, other)


def test_dd1_regresses_each_pairs_tokens_from_its_latents_and_label(monkeypatch):
    cfg, teacher, seen = config(*DD1_WORDS), tiny.teacher(), []
    monkeypatch.setattr(dd1_stage, "load_generator",
                        lambda cfg, teacher, path, bf16: tiny.score_model(teacher, 1))
    loss = dd1_stage.dd1_loss
    monkeypatch.setattr(dd1_stage, "dd1_loss", lambda *a: seen.append(a) or loss(*a))
    pairs = {"labels": torch.arange(10) % 3, "tokens": torch.randint(32, (10, 16))}
    j = DD1Job(cfg, teacher, pairs, cfg.dd1)
    generate = j.model.generate
    monkeypatch.setattr(j.model, "generate", lambda *a: seen.append(a) or generate(*a))
    j.step(0)
    (eps, labels), (_, tokens, codebook, *numbers) = seen
    rows = [row_of(a, pair_latents(cfg, teacher, cfg.dd1)) for a in eps]
    assert len(set(rows)) == 4 and len(set(labels.tolist())) > 1
    assert torch.equal(labels, pairs["labels"][rows])
    assert torch.equal(tokens, pairs["tokens"][rows])
    assert codebook is teacher.codebook and numbers == [2.5, 0.3]


# What is kept ---------------------------------------------------------------------------------


def kept(folder, module) -> bool:
    """Whether `generator.safetensors` of a folder is this network, up to half precision."""
    found = read_tensors(folder / names.weights("generator"))
    own = module.state_dict()
    return found.keys() == own.keys() and all(
        torch.equal(found[k].half(), own[k].half()) for k in own)


def test_csd_keeps_the_average_of_the_generator(job, tmp_path):
    j = job("csd.average=null", "csd.ema=0.7", "csd.ema_warmup=3")
    assert (j.trainer.ema.decay, j.trainer.ema.warmup) == (0.7, 3)
    assert j.networks["ema"] is j.trainer.ema
    for i in range(2):
        j.step(i)
    j.finish(tmp_path)
    assert kept(tmp_path, j.trainer.ema.module) and not kept(tmp_path, j.trainer.generator)


def test_csd_keeps_the_mean_of_the_snapshots_that_average_names(job, tmp_path):
    for step, value in ((2, 1.0), (4, 2.0), (6, 6.0), (8, 50.0)):
        write_tensors(tmp_path / names.snapshot(step), {"a": torch.full((3,), value)})
    assert torch.equal(mean_of_snapshots(tmp_path, 2, 6, 2)["a"], torch.full((3,), 3.0))
    assert torch.equal(mean_of_snapshots(tmp_path, 3, 6, 2)["a"], torch.full((3,), 4.0))
    job("csd.average=[2,6]", "csd.grid_every=2").finish(tmp_path)
    found = read_tensors(tmp_path / names.weights("generator"))
    assert found.keys() == {"a"} and torch.equal(found["a"].float(), torch.full((3,), 3.0))


def test_gts_keeps_and_measures_the_average_of_its_network(data, monkeypatch, tmp_path):
    teacher, measured = tiny.teacher(), []
    monkeypatch.setattr(gts_stage, "new_score_model",
                        lambda cfg, teacher, bf16: tiny.score_model(teacher, 1))
    loss = gts_stage.held_out_loss
    monkeypatch.setattr(gts_stage, "held_out_loss", lambda *a: measured.append(a[0]) or loss(*a))
    j = GTSJob(config(*WORDS, "gts.lr=0.01", "gts.warmup=1"), teacher, data)
    for i in range(2):
        j.step(i)
    j.finish(tmp_path)
    assert measured == [j.ema.module]
    assert kept(tmp_path, j.ema.module) and not kept(tmp_path, j.model)
