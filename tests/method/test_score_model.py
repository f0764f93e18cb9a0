"""Score networks: preconditioning, causality, several times per token, what is new in them."""

import pytest
import torch

from dd2core.schedule import generator_input, precondition
from dd2core.score_model import ConditionalScoreModel, time_features
from tests.support import tiny

B, L, V, C, D = 2, 16, 32, 4, 32
LABELS = torch.tensor([0, 2])


@pytest.fixture(scope="module", params=["codes", "table"])
def teacher(request):
    return tiny.teacher(request.param)


@pytest.fixture
def model(teacher):
    return tiny.score_model(teacher)


def sample_inputs(*draws: int):
    return torch.randn(*draws, B, L, C), torch.rand(*draws, B, L, 1) * 0.9 + 0.05


# The preconditioned head ---------------------------------------------------------------------


def test_an_untrained_head_predicts_c_skip_times_its_input(teacher):
    fresh = tiny.score_model(teacher, trained=False)
    x_t, t = sample_inputs()
    d = fresh(x_t, t, torch.randint(V, (B, L)), LABELS)
    torch.testing.assert_close(d, precondition(t)[0] * x_t)


@torch.no_grad()
def test_denoise_is_the_preconditioned_head(model):
    x_t, t = sample_inputs()
    h = model.features(torch.randint(V, (B, L)), LABELS)
    variance = (1 - t) ** 2 + t**2
    f = model.head(x_t / variance.sqrt(), t, h)
    expected = (1 - t) / variance * x_t + t / variance.sqrt() * f
    torch.testing.assert_close(model.denoise(x_t, t, h), expected)


@torch.no_grad()
def test_the_head_sees_its_input_the_time_and_the_features(model):
    x, t = sample_inputs()
    h = torch.randn(B, L, D)
    out = model.head(x, t, h)
    for changed in ((x + 0.1, t, h), (x, t * 0.9, h), (x, t, h + 0.1)):
        assert ((model.head(*changed) - out).abs().amax(-1) > 1e-6).all()


@torch.no_grad()
def test_the_head_decides_each_token_by_itself(model):
    x_t, t = sample_inputs()
    h = torch.randn(B, L, D)
    before = model.denoise(x_t, t, h)
    x_t[:, 5] += 1
    t[:, 5] = 0.5
    h[:, 5] += 1
    moved = (model.denoise(x_t, t, h) - before).abs().amax((0, 2)) > 0
    assert moved.tolist() == [i == 5 for i in range(L)]


@torch.no_grad()
def test_several_times_per_token_are_those_times_one_by_one(model):
    x_t, t = sample_inputs(3)
    h = model.features(torch.randint(V, (B, L)), LABELS)
    together = model.denoise(x_t, t, h)
    one_by_one = torch.stack([model.denoise(*pair, h) for pair in zip(x_t, t, strict=True)])
    assert together.shape == (3, B, L, C)
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_head_is_an_mlp_whose_layer_norms_follow_time_and_features(model):
    """Written out: shift, scale and gate of each residual layer, shift and scale of the last."""
    def norm(a):
        return (a - a.mean(-1, keepdim=True)) / (a.var(-1, False, keepdim=True) + 1e-5).sqrt()

    head, (x_t, t), h = model.head, sample_inputs(), torch.randn(B, L, D)
    c = head.t_in(time_features(t)) + head.h_in(h)
    m = head.modulation(c * c.sigmoid()).view(B, L, -1, head.out.in_features)
    x = head.x_in(x_t)
    for i, layer in enumerate(head.layers):
        shift, scale, gate = m[..., 3 * i : 3 * i + 3, :].unbind(-2)
        x = x + gate * layer(norm(x) * (1 + scale) + shift)
    expected = head.out(norm(x) * (1 + m[..., -1, :]) + m[..., -2, :])
    torch.testing.assert_close(head(x_t, t, h), expected, atol=1e-5, rtol=1e-4)
    assert len(head.layers) == 2


def test_time_features_are_pairs_of_cosine_and_sine():
    f = time_features(torch.linspace(0.01, 1, 100)[:, None])
    cos, sin = f.chunk(2, -1)
    torch.testing.assert_close(cos.square() + sin.square(), torch.ones(100, 32))


def test_time_features_tell_all_times_apart():
    t = torch.linspace(0.01, 1, 100)[:, None]
    f = time_features(t)
    apart = torch.cdist(f, f) + 10 * torch.eye(100)
    assert f.shape == (100, 64) and apart.min() > 0.05


# Backbone and generator ----------------------------------------------------------------------


def influence(output: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Whether output position i depends on source position j, bool (L, L), for sample 0."""
    weights = torch.randn_like(output)
    rows = [torch.autograd.grad((output * weights)[0, i].sum(), source, retain_graph=True)[0]
            for i in range(L)]
    assert all((g[1:] == 0).all() for g in rows)  # nothing crosses the batch
    return torch.stack([g[0].abs().amax(-1) > 0 for g in rows])


def test_the_generators_token_i_depends_on_exactly_the_latents_up_to_i(model):
    eps = torch.randn(B, L, C, requires_grad=True)
    seen = influence(model.generate(eps, LABELS), eps)
    assert torch.equal(seen, torch.ones(L, L, dtype=torch.bool).tril())


def test_features_of_vectors_depend_on_exactly_those_before_them(model):
    vectors = torch.randn(B, L, C, requires_grad=True)
    seen = influence(model.features(vectors, LABELS), vectors)
    assert torch.equal(seen, torch.ones(L, L, dtype=torch.bool).tril(-1))


@torch.no_grad()
@pytest.mark.parametrize("i", [0, 6, L - 1])
def test_features_of_tokens_depend_on_exactly_those_before_them(model, i):
    tokens = torch.randint(V, (B, L))
    changed = tokens.clone()
    changed[:, i] = (changed[:, i] + 1) % V
    moved = (model.features(changed, LABELS) - model.features(tokens, LABELS)).abs().amax((0, 2))
    assert (moved[: i + 1] == 0).all() and (moved[i + 1 :] > 1e-6).all()


@torch.no_grad()
def test_generate_is_one_denoising_of_the_latents_at_the_fixed_time(model):
    model.t_init = 0.7
    eps = torch.randn(B, L, C)
    expected = model(generator_input(eps, 0.7), torch.full((B, L, 1), 0.7), eps, LABELS)
    torch.testing.assert_close(model.generate(eps, LABELS), expected)


@torch.no_grad()
def test_bf16_runs_the_network_in_bfloat16_and_returns_float32(teacher):
    narrow = ConditionalScoreModel(teacher.backbone(), C, 16, 2, bf16=True)
    wide = ConditionalScoreModel(teacher.backbone(), C, 16, 2)
    wide.load_state_dict(narrow.state_dict())
    for layer in (narrow.head.out, wide.head.out):
        torch.manual_seed(1)
        layer.weight.normal_()
    eps = torch.randn(B, L, C)
    a, b = narrow.generate(eps, LABELS), wide.generate(eps, LABELS)
    assert a.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in narrow.parameters())
    torch.testing.assert_close(a, b, atol=0.1, rtol=0.1)
    assert not torch.allclose(a, b, atol=1e-6)  # it was not float32 all along
    h = [m.features(eps, LABELS).float() for m in (narrow, wide)]
    assert 1e-6 < (h[0] - h[1]).abs().max() < 0.2  # nor was one of its two parts
    d = [m.denoise(eps, torch.full((B, L, 1), 0.5), h[1]) for m in (narrow, wide)]
    assert 1e-6 < (d[0] - d[1]).abs().max() < 0.2


@torch.no_grad()
def test_autocast_around_a_network_of_float32_reaches_it(teacher):
    narrow = ConditionalScoreModel(teacher.backbone(), C, 16, 2, bf16=True)
    wide = ConditionalScoreModel(teacher.backbone(), C, 16, 2)
    narrow.head.out.weight.normal_()
    wide.load_state_dict(narrow.state_dict())
    eps = torch.randn(B, L, C)
    with torch.autocast("cpu", torch.bfloat16):
        found = wide.generate(eps, LABELS)
    assert found.dtype == torch.float32 and torch.equal(found, narrow.generate(eps, LABELS))
    assert not torch.equal(found, wide.generate(eps, LABELS))


# What is copied and what is new --------------------------------------------------------------


def test_the_student_differs_from_the_teacher_in_exactly_the_declared_parameters(teacher):
    student = tiny.score_model(teacher, trained=False)
    copied = {f"backbone.{name}": p for name, p in teacher.transformer.backbone.named_parameters()}
    own = dict(student.named_parameters())
    assert own.keys() - copied.keys() == student.new_parameters()
    assert copied.keys() <= own.keys()
    assert all(torch.equal(own[name], p) for name, p in copied.items())


def test_only_a_token_table_needs_a_new_input_layer(teacher):
    new = set(teacher.backbone().new_parameters())
    table = teacher.transformer.backbone.token_table is not None
    assert new == ({"code_input.weight", "code_input.bias"} if table else set())
    assert set(teacher.transformer.backbone.new_parameters()) == set()  # the teacher's own


def test_the_backbone_is_an_independent_trainable_copy(teacher):
    backbone = teacher.backbone()
    assert backbone.training and all(p.requires_grad for p in backbone.parameters())
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    with torch.no_grad():
        for p in backbone.parameters():
            p.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert not any(p.requires_grad for p in teacher.parameters())


@torch.no_grad()
def test_the_backbones_features_are_those_behind_the_teachers_logits(teacher):
    tokens = torch.randint(V, (B, L))
    logits = teacher.transformer.output(teacher.backbone()(tokens, LABELS))
    torch.testing.assert_close(logits, teacher.logits(tokens, LABELS))


@torch.no_grad()
def test_vectors_of_codes_stand_for_their_tokens(teacher):
    tokens = torch.randint(V, (B, L))
    backbone = teacher.backbone()
    by_token, by_vector = backbone.embed(tokens), backbone.embed(teacher.codebook[tokens])
    if backbone.token_table is None:
        torch.testing.assert_close(by_vector, by_token)
    else:  # least squares: the residual of the whole table is orthogonal to the codes
        residual = backbone.token_table.weight - backbone.embed(teacher.codebook)
        assert (teacher.codebook.T @ residual).abs().max() < 1e-3
        assert residual.sum(0).abs().max() < 1e-3
