"""The head of the score networks in a model folder: what it predicts and from when."""

import dataclasses
import json

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.score_model import ConditionalScoreModel, keep_blocks
from dd2core.store.files import write_manifest
from dd2core.store.folder import load_folder, save_folder
from tests.support import tiny

CPU = torch.device("cpu")


def test_a_velocity_model_comes_back_as_one(tmp_path):
    plain = tiny.model()
    g = ConditionalScoreModel(plain.teacher.backbone(), plain.teacher.code_dim, 16, 2, 1.0,
                              prediction="velocity")
    torch.nn.init.normal_(g.head.out.weight, std=0.3)
    save_folder(tmp_path, dataclasses.replace(plain, generator=g, guidance=None))
    back, eps = load_folder(tmp_path, CPU).generator, torch.randn(2, 16, 4)
    assert (back.prediction, back.t_init) == ("velocity", 1.0)
    with torch.no_grad():
        labels = torch.tensor([0, 1])
        assert torch.equal(back.generate(eps, labels), g.generate(eps, labels))


def test_a_shallower_generator_comes_back_as_one(tmp_path):
    plain = tiny.model()
    keep_blocks(plain.generator.backbone, 1)
    save_folder(tmp_path, plain)
    assert json.loads((tmp_path / "config.json").read_text())["head"]["generator_depth"] == 1
    back, eps, labels = load_folder(tmp_path, CPU), torch.randn(2, 16, 4), torch.tensor([0, 1])
    assert (len(back.generator.backbone.blocks), len(back.guidance.backbone.blocks)) == (1, 2)
    assert torch.equal(back.generator.generate(eps, labels), plain.generator.generate(eps, labels))


@pytest.mark.parametrize("change, said", [
    ({"prediction": None}, None),  # written before there was a choice
    ({"prediction": "noise"}, "prediction=noise is unknown"),
    ({"prediction": 3}, "prediction='3' is not possible"),
    ({"width": None}, "is not a model's"),
    ({"generator_depth": None}, None),  # written before it could be shallower
    ({"generator_depth": 0}, "generator_depth=0 must be at least 1 and at most the teacher's 2"),
    ({"generator_depth": 3}, "generator_depth=3 must be at least 1 and at most the teacher's 2"),
    ({"generator_depth": "2"}, "generator_depth='2' is not possible"),
], ids=str)
def test_what_config_json_says_of_the_head_is_checked(tmp_path, change, said):
    save_folder(tmp_path, tiny.model())
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for key, value in change.items():
        config["head"].pop(key) if value is None else config["head"].update({key: value})
    path.write_text(json.dumps(config))
    write_manifest(tmp_path)
    if said is None:
        assert load_folder(tmp_path, CPU).generator.prediction == "denoised"
        return
    with pytest.raises(DD2Error, match=said):
        load_folder(tmp_path, CPU)
