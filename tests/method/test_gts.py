"""What the scores are evaluated on, in GTS, CSD and the measurements: noise, times, prefix, labels,
and the options that reach them."""

import pytest
import torch

from dd2core.families import codebook
from dd2core.gts import ScoreOptions, draw, gts_step_loss, teacher_score
from dd2core.sampling import Sampling
from tests.support import tiny

B, L, V = 3, 16, 32
LABELS = torch.tensor([0, 1, 2])


def test_noise_and_times_are_drawn_for_each_token_and_each_of_the_S_times():
    x, o = torch.zeros(2, 50, 4, dtype=torch.float64), ScoreOptions(times=3, t_min=0.3, t_max=0.4)
    eps, t = draw(x, o)
    assert eps.shape == (3, 2, 50, 4) and t.shape == (3, 2, 50, 1)
    assert eps.dtype == t.dtype == torch.float64
    assert 0.3 <= t.min() < 0.31 and 0.39 < t.max() <= 0.4
    assert len(eps.unique()) == eps.numel() and len(t.unique()) == t.numel()


@pytest.mark.parametrize("bf16", [False, True])
def test_the_teacher_is_scored_under_the_options(bf16, monkeypatch):
    teacher, tokens = tiny.teacher(), torch.randint(V, (B, L))
    logits, chunks, types = teacher.logits, [], []
    mean = codebook.posterior_mean
    monkeypatch.setattr(codebook, "posterior_mean",
                        lambda *a: chunks.append(a[-1]) or mean(*a))
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "logits",
                      lambda *a: types.append(logits(*a).dtype) or logits(*a))
        o = ScoreOptions(sampling=Sampling(2.0, top_k=5), chunk=7, bf16=bf16)
        score = teacher_score(teacher, tokens, LABELS, o)
    assert types == [torch.bfloat16 if bf16 else torch.float32]
    d = score.denoise(torch.randn(2, B, L, 4), torch.rand(2, B, L, 1))
    assert chunks == [7] and d.dtype == torch.float32
    expected = teacher.log_probs(tokens, LABELS, 2.0, top_k=5).exp()
    torch.testing.assert_close(score.log_p.exp(), expected, atol=0.2 if bf16 else 1e-5, rtol=1e-4)


@pytest.mark.parametrize("as_vectors", [False, True])
def test_gts_gives_network_and_teacher_the_same_prefix_and_labels(as_vectors, monkeypatch):
    teacher, tokens = tiny.teacher("table"), torch.randint(V, (B, L))
    model, seen = tiny.score_model(teacher), {}
    features, score = model.features, teacher.score
    monkeypatch.setattr(model, "features", lambda *a: seen.update(model=a) or features(*a))
    monkeypatch.setattr(teacher, "score", lambda *a: seen.update(teacher=a) or score(*a))
    gts_step_loss(model, teacher, tokens, LABELS, ScoreOptions(), as_vectors)
    assert torch.equal(seen["model"][0], teacher.vectors(tokens) if as_vectors else tokens)
    assert torch.equal(seen["teacher"][0], tokens)
    assert all(torch.equal(seen[name][1], LABELS) for name in seen)
