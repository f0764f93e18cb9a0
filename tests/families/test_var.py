"""The VAR teacher and its students: scales, causality, cache, guidance, folder round trip."""

import copy

import pytest
import torch

from dd2core.baselines import dd1_pairs, parallel_sample
from dd2core.csd import CSDOptions, CSDTrainer
from dd2core.families.attention import attention
from dd2core.families.var import block as var_block
from dd2core.families.var import pyramid
from dd2core.families.var.teacher import VARTeacher
from dd2core.families.var.transformer import scale_mask
from dd2core.gts import gts_step_loss
from dd2core.noise import uniforms
from dd2core.sampling import Sampling, filter_logits
from tests.support import tiny_var
from train.measure.yardstick import yardstick

B, L, V, C, D, K = 3, 21, 32, 4, 32, 3
SPANS = [(0, 1), (1, 5), (5, 21)]
LABELS = torch.tensor([0, 1, 2])
KINDS = {"plain": {}, "shared": {"shared": True}, "no_l2": {"l2_norm": False}}
SETTINGS = {
    "plain": {},
    "guided": {"cfg": 1.5},
    "filtered": {"cfg": 0.7, "temperature": 0.7, "top_k": 9, "top_p": 0.8},
}
settings = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())


@pytest.fixture(scope="module", params=[*KINDS, "maps"])
def teacher(request):
    """Teachers of all kinds; `maps` computes its pyramid scale by scale, as large ones do."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "maps":
            patch.setattr(pyramid, "MATRIX_LIMIT", 0)
        made = tiny_var.teacher(**KINDS.get(request.param, {}))
    assert (made.transformer.backbone.pyramid.matrix is None) == (request.param == "maps")
    return made


@pytest.fixture
def model(teacher):
    return tiny_var.score_model(teacher)


def random_tokens(n=B):
    return torch.randint(V, (n, L))


def scale_of(i):
    return next(k for k, (first, last) in enumerate(SPANS) if first <= i < last)


# Interface ------------------------------------------------------------------------------------

def test_it_is_frozen_and_in_eval_mode(teacher):
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_its_sizes_are_those_of_its_parts(teacher):
    assert (teacher.num_tokens, teacher.num_codes, teacher.code_dim) == (L, V, C)
    assert (teacher.num_steps, teacher.num_classes, teacher.spans) == (K, 3, SPANS)
    assert teacher.logits(random_tokens(), LABELS).shape == (B, L, V)
    assert teacher.codebook.square().mean().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(teacher.codebook, teacher.scale * teacher.tokenizer.codes)


@torch.no_grad()
def test_decode_upto_paints_the_scales_that_are_decided(teacher):
    tokens, other = random_tokens(), random_tokens()
    other[:, :5] = tokens[:, :5]
    assert torch.equal(teacher.decode(tokens, L), teacher.decode(tokens))
    assert torch.equal(teacher.decode(tokens, 5), teacher.decode(other, 5))
    assert not torch.equal(teacher.decode(tokens, 5), teacher.decode(tokens, 1))
    assert torch.equal(teacher.decode(tokens, 0), teacher.decode(other.flip(-1), 0))


# Causality and cache --------------------------------------------------------------------------

def test_the_mask_shows_a_token_its_own_scale_and_coarser_ones():
    seen = scale_mask((1, 2, 4)) == 0
    scales = torch.tensor([scale_of(i) for i in range(L)])
    assert torch.equal(seen, scales[:, None] >= scales[None])


@torch.no_grad()
@pytest.mark.parametrize("i", [0, 2, 4, 5, 20])
def test_logits_see_coarser_scales_alone(teacher, i):
    tokens = random_tokens()
    changed = tokens.clone()
    changed[:, i] = (changed[:, i] + 1) % V
    moved = (teacher.logits(changed, LABELS) - teacher.logits(tokens, LABELS)).abs().amax((0, 2))
    end = SPANS[scale_of(i)][1]
    assert (moved[:end] == 0).all()  # its own scale too: tokens of one scale are independent
    assert (moved[end:] > 1e-6).all()


@torch.no_grad()
def test_logits_see_the_label_at_every_position(teacher):
    tokens = random_tokens()
    moved = teacher.logits(tokens, LABELS) - teacher.logits(tokens, LABELS.flip(0))
    assert (moved.abs().amax(-1)[[0, 2]] > 1e-6).all()


@settings
@pytest.mark.parametrize("start", [0, 1, 2])
def test_the_cache_gives_the_probabilities_of_the_full_pass(teacher, settings, start):
    prefix = random_tokens()
    walk = [(tokens.clone(), log_p) for tokens, log_p in
            teacher.steps(LABELS, **settings, prefix=prefix, start=start)]
    tokens, log_p = walk[-1][0], torch.cat([log_p for _, log_p in walk], 1)
    begin = SPANS[start][0]
    assert torch.equal(tokens[:, :begin], prefix[:, :begin])
    expected = teacher.log_probs(tokens, LABELS, **settings)[:, begin:]
    torch.testing.assert_close(log_p.exp(), expected.exp(), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("steps", [(0, 2), (1, 2)])
def test_the_cache_takes_in_all_that_it_has_not_seen(teacher, steps):
    tokens = random_tokens()
    expected, cache = teacher.logits(tokens, LABELS), teacher.begin(LABELS)
    for step in steps:
        torch.testing.assert_close(teacher.advance(cache, tokens, step),
                                   expected[:, slice(*SPANS[step])], atol=1e-5, rtol=1e-4)


def test_a_teacher_takes_over_the_codes_and_convolutions_of_its_tokenizer(teacher):
    """The transformer was made with another tokenizer: its own copies must not stay."""
    other = tiny_var.tokenizer(seed=7)
    made = VARTeacher(other, copy.deepcopy(teacher.transformer))
    tokens = random_tokens()
    seen = made.transformer.backbone
    expected = other.pyramid.inputs(other.codes[tokens])
    torch.testing.assert_close(seen.pyramid.inputs(seen.vectors(tokens)), expected, atol=1e-5,
                               rtol=1e-4)
    torch.testing.assert_close(seen.vectors(made.codebook[tokens]), other.codes[tokens])


def test_steps_decide_one_scale_at_a_time(teacher):
    seen = [tokens.clone() for tokens, _ in teacher.steps(LABELS, prefix=random_tokens())]
    assert len(seen) == K
    for step, (before, after) in enumerate(zip(seen, seen[1:], strict=False), 1):
        same, (first, last) = before == after, SPANS[step]
        assert same[:, :first].all() and same[:, last:].all()
    assert list(teacher.steps(LABELS, prefix=random_tokens(), start=K)) == []


def test_the_cache_is_written_in_place(teacher):
    cache = teacher.begin(LABELS)
    before = [kv.data_ptr() for _, _, kv in cache.blocks]
    for step in range(K):
        teacher.advance(cache, random_tokens(), step)
    assert [kv.data_ptr() for _, _, kv in cache.blocks] == before


def test_under_autocast_queries_keys_and_values_share_one_dtype(teacher, monkeypatch):
    """xformers refuses a bfloat16 query with the float32 keys of a cache."""
    seen = set()

    def spy(q, k, v, *args, **options):
        seen.add((q.dtype, k.dtype, v.dtype))
        return attention(q, k, v, *args, **options)

    monkeypatch.setattr(var_block, "attention", spy)
    with torch.autocast("cpu", torch.bfloat16):
        teacher.sample(LABELS, cfg=2.0)
        teacher.log_probs(random_tokens(), LABELS)
    assert seen == {(torch.bfloat16,) * 3}


# Sampling and guidance ------------------------------------------------------------------------

def test_sampling_with_top_k_1_is_greedy_whatever_the_noise(teacher):
    tokens = teacher.sample(LABELS, cfg=2.0, top_k=1, noise=torch.rand(B, L))
    assert torch.equal(tokens, teacher.log_probs(tokens, LABELS, cfg=2.0).argmax(-1))


@settings
def test_each_token_inverts_the_distribution_given_the_coarser_scales(teacher, settings):
    noise = torch.rand(B, L)
    tokens = teacher.sample(LABELS, **settings, noise=noise)
    p = teacher.log_probs(tokens, LABELS, **settings).exp()
    upper = p.cumsum(-1).gather(-1, tokens[..., None])[..., 0]
    lower = upper - p.gather(-1, tokens[..., None])[..., 0]
    assert (lower - 1e-4 <= noise).all() and (noise <= upper + 1e-4).all()


@settings
def test_a_sample_depends_on_seed_position_and_label_not_on_the_batch(teacher, settings):
    many = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    whole = teacher.sample(many, **settings, noise=uniforms(7, L, 5))
    for n in (1, 3):
        part = teacher.sample(many[:n], **settings, noise=uniforms(n, L, 5))
        assert torch.equal(part, whole[:n])


def test_guidance_is_off_at_0_and_at_none(teacher):
    tokens = random_tokens()
    plain = teacher.logits(tokens, LABELS).log_softmax(-1)
    for cfg in (None, 0, 0.0):
        assert not teacher.is_guided(cfg)
        torch.testing.assert_close(teacher.log_probs(tokens, LABELS, cfg), plain)
    assert teacher.is_guided(1.0)


@pytest.mark.parametrize("cfg", [0.5, 1.5, 4.0])
def test_guidance_grows_with_the_scale(teacher, cfg):
    tokens = random_tokens()
    c = teacher.logits(tokens, LABELS)
    u = teacher.logits(tokens, torch.full_like(LABELS, teacher.num_classes))
    t = torch.tensor([cfg * scale_of(i) / (K - 1) for i in range(L)])[:, None]
    for options in ({}, {"temperature": 0.8, "top_k": 5}):
        expected = filter_logits((1 + t) * c - t * u, **options)
        got = teacher.log_probs(tokens, LABELS, cfg, **options)
        torch.testing.assert_close(got.exp(), expected.exp(), atol=1e-5, rtol=1e-4)
    # The first scale is not guided, and the strength is the token's, wherever the part starts.
    torch.testing.assert_close(teacher.guide(c[:, 5:], u[:, 5:], cfg, 5),
                               (1 + cfg) * c[:, 5:] - cfg * u[:, 5:])
    torch.testing.assert_close(teacher.guide(c[:, :1], u[:, :1], cfg, 0), c[:, :1])


@torch.no_grad()
def test_blank_logits_are_exact_for_the_first_scale_and_ignore_the_batch(teacher):
    blank = teacher.blank_logits(LABELS)
    assert blank.shape == (B, L, V)
    mean = teacher.codebook.mean(0).expand(B, L, C)  # the mean code stands everywhere
    features = teacher.transformer.backbone(mean, LABELS)
    torch.testing.assert_close(blank, teacher.transformer.output(features))
    assert mean.abs().max() > 0.01
    exact = teacher.logits(random_tokens(), LABELS)[:, :1]
    torch.testing.assert_close(blank[:, :1], exact, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(blank[1:2], teacher.blank_logits(LABELS[1:2]), atol=1e-5, rtol=1e-4)


# Generator and guidance network ---------------------------------------------------------------

@torch.no_grad()
@pytest.mark.parametrize("i", [0, 3, 5, 20])
def test_the_generators_tokens_of_one_scale_are_independent(model, i):
    eps = torch.randn(B, L, C)
    moved_eps = eps.clone()
    moved_eps[:, i] += 1
    moved = (model.generate(moved_eps, LABELS) - model.generate(eps, LABELS)).abs().amax((0, 2))
    first, last = SPANS[scale_of(i)]
    touched = torch.zeros(L, dtype=torch.bool)
    touched[i] = True  # through its own head
    touched[last:] = True  # finer scales, through the pyramid
    assert (moved[~touched] == 0).all() and (moved[touched] > 1e-7).all()
    assert not touched[first:last].sum() > 1


@torch.no_grad()
def test_vectors_of_codes_stand_for_their_tokens(teacher, model):
    tokens = random_tokens()
    h = model.features(tokens, LABELS)
    torch.testing.assert_close(model.features(teacher.codebook[tokens], LABELS), h, atol=1e-5,
                               rtol=1e-4)
    torch.testing.assert_close(teacher.transformer.output(h), teacher.logits(tokens, LABELS))


@torch.no_grad()
def test_noise_goes_through_the_pyramid_as_stored_code_vectors_would(teacher, model):
    """On the stored codes' scale: noise / scale, accumulated by the tokenizer's own pyramid."""
    eps, backbone = torch.randn(B, L, C), model.backbone
    seen = []
    hook = backbone.code_input.register_forward_hook(lambda m, x, y: seen.append(x[0]))
    model.generate(eps, LABELS)
    hook.remove()
    expected = teacher.tokenizer.pyramid.inputs(eps / teacher.scale)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-4)


def test_the_student_differs_from_the_teacher_in_exactly_the_declared_parameters(teacher):
    fresh = tiny_var.score_model(teacher, trained=False)
    theirs = teacher.transformer.state_dict()
    own = {k for k, v in fresh.state_dict().items() if not (k in theirs and torch.equal(
        v, theirs[k]))}
    assert own == fresh.new_parameters()
    assert {k for k in own if not k.startswith("head.")} == set()
    dropped = theirs.keys() - fresh.state_dict().keys()
    assert dropped == {"output.weight", "output.bias"}  # the class-conditioned norm stays


def test_the_pyramid_of_a_student_is_neither_trained_nor_saved(teacher, model):
    assert not any("pyramid" in k for k in model.state_dict())
    assert not any("pyramid" in k for k, _ in model.named_parameters())
    assert not any("pyramid" in k for k in teacher.transformer.state_dict())
    assert all(p.requires_grad for p in model.parameters())
    model.backbone.position.data.add_(1)
    assert not torch.equal(model.backbone.position, teacher.transformer.backbone.position)


def test_bf16_runs_the_network_in_bfloat16_and_returns_float32(teacher):
    model = tiny_var.score_model(teacher)
    eps = torch.randn(B, L, C)
    exact = model.generate(eps, LABELS)
    model.bf16 = True
    rough = model.generate(eps, LABELS)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.5


def test_a_step_of_every_stage_has_gradients_for_every_parameter(teacher):
    model = tiny_var.score_model(teacher)
    options = CSDOptions(sampling=Sampling(1.0))
    for as_vectors in (False, True):
        model.zero_grad()
        gts_step_loss(model, teacher, random_tokens(), LABELS, options, as_vectors).backward()
        without = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert not without
    psi = tiny_var.score_model(teacher, 1)
    trainer = CSDTrainer(teacher, model, psi, torch.optim.Adam(model.parameters()),
                         torch.optim.Adam(psi.parameters()), options)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    metrics = trainer.step(torch.randn(B, L, C), LABELS)
    assert all(v == v for v in metrics.values())
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_baselines_ask_for_nothing_more(teacher):
    assert parallel_sample(teacher, LABELS, torch.rand(B, L), Sampling(1.0)).shape == (B, L)
    tokens = dd1_pairs(teacher, LABELS, torch.randn(B, L, C), Sampling(1.0), 4)
    assert tokens.shape == (B, L) and tokens.max() < V


# The yardstick --------------------------------------------------------------------------------

@pytest.mark.parametrize("cfg", [1.5, 0.4])
def test_the_plain_sampler_gives_the_teachers_tokens(teacher, cfg):
    labels, noise = torch.arange(6) % 3, uniforms(6, L, 1)
    ours = teacher.sample(labels, cfg, noise=noise)
    assert torch.equal(yardstick(teacher).sample(labels, cfg, noise), ours)
    assert ours.unique().numel() > 8  # the test would see a wrong token
