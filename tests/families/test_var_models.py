"""The VAR family as whole models: folder, pipeline, official sizes, learning."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from dd2core.families.var.settings import VARConfig, VARTokenizerConfig
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.families.var.transformer import VARTransformer
from dd2core.pipeline import Pipeline
from dd2core.store.folder import load_folder, save_folder
from tests.families.test_var import KINDS, SPANS, C, K, L, V
from tests.support import tiny_var
from tests.support.parity import description


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_back_the_same_images(kind, tmp_path):
    made = tiny_var.model()
    if KINDS[kind]:
        t = tiny_var.teacher(**KINDS[kind])
        score = tiny_var.score_model(t).requires_grad_(False).eval()
        made = type(made)(made.name, made.family, made.class_names, made.sampling, t, score, score,
                          made.image_size)
    save_folder(tmp_path / "model", made)
    before = Pipeline(made)
    after = Pipeline(load_folder(tmp_path / "model", torch.device("cpu")))
    for a, b in ((before.sample_one_step([0, 1], 3), after.sample_one_step([0, 1], 3)),
                 (before.sample_teacher([0, 1], 3), after.sample_teacher([0, 1], 3))):
        assert torch.equal(a.tokens, b.tokens) and (a.images == b.images).all()


def test_a_pipeline_streams_scales_and_refines_from_any():
    pipe = Pipeline(tiny_var.model())
    parts = list(pipe.stream_teacher([0, 1], seed=1))
    assert [p.step for p in parts] == [1, 2, 3] and parts[-1].steps == K
    one = pipe.sample_one_step([0, 1], seed=1)
    for start in range(K + 1):
        s = pipe.refine([0, 1], seed=1, start=start)
        assert s.passes == 1 + K - start
        begin = SPANS[start][0] if start < K else L
        assert torch.equal(s.tokens[:, :begin], one.tokens[:, :begin])


def test_the_default_config_has_the_tensors_of_the_official_var_d16():
    official = description("var_official_keys")["var_d16"]
    buffers = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias")
    expected = Counter(tuple(n for n in s if n > 1) for k, s in official.items()
                       if k.rpartition(".")[2] not in buffers)
    with torch.device("meta"):
        state = VARTransformer(VARConfig(), VARTokenizer(VARTokenizerConfig())).state_dict()
    assert Counter(tuple(n for n in a.shape if n > 1) for a in state.values()) == expected


def test_fresh_weights_learn_a_simple_distribution():
    """Cross-entropy falls well below that of the marginal within a few steps."""
    vq = tiny_var.tokenizer()
    model = VARTransformer(VARConfig(2, 32, 2, 2.0, V, C, 3, (1, 2, 4)), vq)
    labels = torch.arange(3).repeat(8)
    tokens = labels[:, None].repeat(1, L) * 7 + 2  # every token tells the class
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(40):
        loss = F.cross_entropy(model(tokens, labels).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3  # the marginal's is log 3 = 1.1
