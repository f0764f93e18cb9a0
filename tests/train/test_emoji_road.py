"""The road of the emoji presets on a few drawn pictures: folder, both tokenizers, all stages.

The presets as they are, in colour and at 48 pixels; steps, widths, depths, pairs and codes are cut.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dd2core import load_pipeline
from tests.support.emoji_sets import make_packages
from tests.support.train_helpers import cli
from tests.train.test_train_end_to_end import call
from train import emoji
from train.emoji import EmojiFolder
from train.engine import launch
from train.settings.stages import TRAINED

SHORT = [f"{stage}.{word}" for stage in TRAINED for word in ("steps=2", "batch=8", "save_every=2")]
SMALL = [*SHORT, "tokenizer.width=16", "tokenizer.z_channels=16", "tokenizer.num_codes=64",
         "tokenizer.adversarial_from=1", "teacher.depth=2", "teacher.width=24", "teacher.heads=1",
         "head.depth=1", "head.width=16", "warm.pairs=16", "warm.pair_batch=16", "dd1.pairs=16",
         "csd.guidance_first=1", "csd.grid_every=1", "threads=1"]
TUNE = ("tune.guidance_first=1", "tune.grid_every=1", "tune.adversarial_depth=1",
        "tune.adversarial_from=1")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """What `python -m train.emoji` makes of small sets: 60 pictures or more of 48 px."""
    folder = tmp_path_factory.mktemp("emoji")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji, "need_rasteriser", lambda: None)
        packages = make_packages(folder / "packages", patch)
        emoji.run(EmojiFolder(out=str(folder / "data"), packages=str(packages), size=48))
    return folder / "data"


@pytest.fixture
def in_process(monkeypatch):
    """`train.all` runs its stages in this process."""
    monkeypatch.setattr(launch, "call", call)


@pytest.mark.parametrize("preset, more", [("emoji-llamagen", TUNE),
                                          ("emoji-var", ("csd.average=[1,2]",))])
def test_pictures_become_a_model_of_their_classes(preset, more, pictures, tmp_path, in_process):
    assert sum(1 for _ in pictures.rglob("*.png")) >= 60
    plain, out = tmp_path / "plain", tmp_path / "run"
    common = [f"preset={preset}", f"data={pictures}", *SMALL, *more]
    assert cli("tokenizer", *common, f"out={plain}", "tokenizer.init=null",
               "tokenizer.perceptual=0", "tokenizer.adversarial=0", "tokenizer.decoder_only=false",
               "tokenizer.decoder_res_blocks=null") is None
    first = plain / "tokenizer" / "tokenizer.safetensors"
    words = [*common, f"out={out}", f"export={tmp_path / 'model'}", f"tokenizer.init={first}",
             "evaluate.n=64"]
    assert cli("all", *words) is None
    pipe = load_pipeline(tmp_path / "model")
    classes = sorted(p.name for p in (pictures / "train").iterdir())
    assert list(pipe.class_names) == classes and len(classes) > 1
    images = pipe.sample_one_step([0, len(classes) - 1], seed=1).images
    assert images.shape == (2, 48, 48, 3) and images.dtype == np.uint8
    assert pipe.sample_teacher([0], seed=1).images.shape == (1, 48, 48, 3)
    found = json.loads((out / "evaluate" / "one_step.json").read_text())
    assert found["n"] == 64 and found["fd"] > 0
    with Image.open(out / "evaluate" / "one_step.png") as sheet:
        assert sheet.mode == "RGB"
