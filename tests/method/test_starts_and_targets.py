"""What Tables 4 and 7 of the paper compare: another target in GTS, another start of G and ψ."""

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.gts import ScoreOptions, draw, gts_step_loss, model_denoiser, teacher_score
from dd2core.losses import weighted_error
from dd2core.schedule import add_noise
from tests.support import tiny
from tests.support.train_helpers import config
from train import csd as csd_stage
from train.csd import CSDJob
from train.data.tokens import TokenData

LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("target", ["score", "sample"])
def test_the_target_is_the_teachers_mean_or_the_token_itself(target):
    teacher, o = tiny.teacher(), ScoreOptions(times=3)
    model, tokens = tiny.score_model(teacher), torch.randint(32, (4, 16))
    torch.manual_seed(5)
    loss = gts_step_loss(model, teacher, tokens, LABELS, o, target=target)
    torch.manual_seed(5)
    codes = teacher.vectors(tokens)
    eps, t = draw(codes, o)
    x_t = add_noise(codes, eps, t)
    d = model_denoiser(model, model.features(tokens, LABELS))(x_t, t)
    known = codes if target == "sample" else teacher_score(
        teacher, tokens, LABELS, o).denoise(x_t, t)
    torch.testing.assert_close(loss, weighted_error(d, known, t))


def test_both_targets_pull_the_same_way_where_tokens_come_as_the_teacher_draws_them():
    """E[token | x_t, prefix] is the teacher's mean, so the mean gradients agree."""
    teacher, o = tiny.teacher(), ScoreOptions(times=8, t_min=0.3, t_max=0.7)
    model, gradients = tiny.score_model(teacher), {}
    for target in ("score", "sample"):
        model.zero_grad()
        for seed in range(6):
            torch.manual_seed(seed)
            labels = LABELS.repeat(32)
            tokens = teacher.sample(labels, noise=torch.rand(len(labels), 16))
            (gts_step_loss(model, teacher, tokens, labels, o, target=target) / 6).backward()
        gradients[target] = torch.cat([p.grad.flatten() for p in model.head.parameters()])
    a, b = gradients.values()
    assert torch.cosine_similarity(a, b, dim=0) > 0.95 and not torch.equal(a, b)


def test_an_unknown_target_is_one_sentence():
    with pytest.raises(DD2Error, match=r"gts\.target=noise is unknown: use score or sample\."):
        config("gts.target=noise")


@pytest.mark.parametrize(("words", "fresh"), [
    ((), []), (("csd.generator_from_teacher=true",), ["generator"]),
    (("csd.guidance_from_teacher=true",), ["guidance"])])
def test_g_or_psi_starts_as_the_teacher_with_a_fresh_head(words, fresh, monkeypatch):
    teacher = tiny.teacher()
    for name in ("load_score_model", "load_generator"):
        monkeypatch.setattr(csd_stage, name,
                            lambda cfg, teacher, path, bf16: tiny.score_model(teacher, 1))
    cfg = config("csd.start=gts", "csd.pair_share=0", *words)
    tokens = torch.randint(32, (6, 16))
    data = TokenData(tokens, torch.zeros(6).long(), tokens, torch.zeros(6).long())
    networks = CSDJob(cfg, teacher, data, cfg.csd).networks
    found = [name for name in ("generator", "guidance")
             if not networks[name].head.out.weight.any()]  # a fresh head gives F = 0
    assert found == fresh
    own = dict(teacher.transformer.backbone.named_parameters())
    for name in fresh:
        taken = dict(networks[name].backbone.named_parameters())
        assert all(torch.equal(p, own[key]) for key, p in taken.items())
