"""The preset for anyone's own pictures."""

import pytest

from tests.support.train_helpers import PICTURES, cli
from train.engine.assemble import new_tokenizer
from train.settings.cli import load_config


@pytest.mark.parametrize(("words", "grid"), [
    ([], 8), (["image_size=28", "channels=1"], 7),
    (["image_size=48", "tokenizer.patch=3"], 8), (["image_size=64", "tokenizer.patch=4"], 8),
])
def test_the_pictures_preset_fits_the_sizes_it_names(words, grid, tmp_path, capsys):
    words = ["preset=pictures", f"data={PICTURES}", f"out={tmp_path / 'run'}", "dry_run=true",
             "tokenizer.batch=2", "gts.batch=2", "csd.batch=2", *words]
    assert new_tokenizer(load_config(words)).cfg.grid == grid
    for stage in ("tokenizer", "gts", "csd"):
        assert cli(stage, *words) is None
        assert f"{stage}: dry run, nothing written" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_the_pictures_preset_asks_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stopped = cli("tokenizer", "preset=pictures", f"out={tmp_path / 'run'}")
    assert stopped.startswith("error: data=pictures is no folder")
