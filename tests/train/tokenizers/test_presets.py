"""The presets of the official tokenizers: their sizes, and what they say of themselves."""

import pytest
import torch

from dd2core.families.llamagen.settings import VQConfig
from dd2core.families.var.settings import VARTokenizerConfig
from train.engine.assemble import new_tokenizer
from train.settings.cli import find_preset, load_config


@pytest.mark.parametrize("name, sizes", [("vq-16", VQConfig()),
                                         ("vqvae-var", VARTokenizerConfig())])
def test_the_official_tokenizers_are_trained_at_their_sizes(name, sizes):
    cfg, text = load_config([f"preset={name}"]), find_preset(name).read_text()
    with torch.device("meta"):
        assert new_tokenizer(cfg).cfg == sizes
    assert cfg.tokenizer.batch % cfg.processes == 0
    assert "UNTESTED at this size" in text and "guess" in text.lower()
