"""`key=value`: the type of a setting decides what a word means, not how the word looks."""

import pytest
from omegaconf import OmegaConf

from dd2core.errors import DD2Error
from train import convert, fullsize
from train.engine.run_folder import Run
from train.settings.cli import load_config, load_settings
from train.settings.words import kind_of

WORDS = ["2024_01", "007", "0000123", "/x/set #2", "null", "true", "1e5", "[abc", "{a: 1}", "12:30",
         "2024-01-02", "${HOME}/x", "???", " two ", "a=b", "~/x", "'q'", '"', "no", "0x10", ".5"]


NAMES = [w for w in WORDS if not set(w) & set('/:?"') and w == w.strip() and w[0] != "."]


@pytest.mark.parametrize("word", NAMES)
def test_a_name_is_what_was_typed(word):
    cfg = load_config(["preset=tiny", f"name={word}", f"dd1.name={word}", f"evaluate.tag={word}"])
    assert (cfg.name, cfg.dd1.name) == (word, word)
    assert cfg.evaluate.tag == (None if word == "null" else word)


@pytest.mark.parametrize("word", [w for w in WORDS if w not in NAMES])
@pytest.mark.parametrize("key", ["name", "dd1.name", "warm.name", "evaluate.tag"])
def test_a_name_that_is_no_file_name_is_refused(key, word):
    with pytest.raises(DD2Error, match="becomes a file name"):
        load_config(["preset=tiny", f"{key}={word}"])


@pytest.mark.parametrize("word", WORDS)
def test_a_string_is_what_was_typed(word):
    cfg = load_config(["preset=tiny", f"data={word}"])
    assert cfg.data == word
    assert load_settings(convert.Convert, [f"source={word}"]).source == word
    assert load_settings(fullsize.FullSize, [f"model={word}"]).model == word


@pytest.mark.parametrize("word", [w for w in WORDS if w != "null"])
def test_a_string_that_may_be_none_is_what_was_typed_too(word):
    cfg = load_config(["preset=tiny", f"base={word}", f"out={word}"])
    assert (cfg.base, cfg.out) == (word, word)
    assert load_config([f"model={word}"], "evaluate").evaluate.model == word
    assert load_settings(convert.Convert, [f"revision={word}"]).revision == word


@pytest.mark.parametrize("word", ["null", ""])
def test_none_is_written_null_or_nothing(word):
    cfg = load_config(["preset=llamagen-b", f"base={word}", f"threads={word}"])
    assert cfg.base is None and cfg.threads is None
    assert load_settings(convert.Convert, [f"revision={word}"]).revision is None
    assert load_config(["preset=tiny", "csd.average=null"]).csd.average is None


def test_numbers_and_booleans_are_read_as_python_reads_them():
    cfg = load_config(["preset=tiny", "seed=010", "gts.steps=1_000", "gts.lr=1e-3", "shard=yes",
                       "tokenizer.mult=[1,2,3]", "csd.average=[1,2]"])
    assert (cfg.seed, cfg.gts.steps, cfg.gts.lr, cfg.shard) == (10, 1000, 1e-3, True)
    assert (cfg.tokenizer.mult, cfg.csd.average) == ([1, 2, 3], [1, 2])
    for word in ("seed=12:30", "seed=true", "gts.lr=yes", "shard=maybe"):
        with pytest.raises(DD2Error, match=f"Setting {word.partition('=')[0]}: "):
            load_config(["preset=tiny", word])


@pytest.mark.parametrize("line", ["data: 2024_01", "name: 007", "base: 0000123", "data: true",
                                  "data: 1.50", "warm:\n  name: 0123", "name: [a]"])
def test_a_preset_whose_text_yaml_reads_as_something_else_is_refused(line, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(line + "\n")
    with pytest.raises(DD2Error, match="is text, and YAML reads it as .*: write it in quotes"):
        load_config([f"preset={path}"])
    key, _, value = line.rpartition(": ")
    path.write_text(f"{key}: '{value}'\n")
    cfg = load_config([f"preset={path}"])
    at = {"data": cfg.data, "name": cfg.name, "base": cfg.base, "warm:\n  name": cfg.warm.name}
    assert at[key] == value


@pytest.mark.parametrize("word", ["007", "2024_01", "true", "null"])
def test_the_resolved_settings_keep_the_words(word, tmp_path):
    cfg = load_config(["preset=tiny", f"out={tmp_path}", f"name={word}", f"data={word}"])
    run = Run(cfg, "gts")
    run.folder.mkdir()
    run.save_config()
    again = load_config([f"preset={run.folder / 'config.yaml'}"])
    assert (again.name, again.data) == (word, word)
    assert OmegaConf.structured(again) == OmegaConf.structured(cfg)


def test_types_are_found_through_sections():
    settings = type(load_config(["preset=tiny"]))
    assert kind_of(settings, "base") == (str, True)
    assert kind_of(settings, "dd1.name") == (str, False)
    assert kind_of(settings, "evaluate.cfg") == (float, True)
    for unknown in ("nothing", "dd1.nothing", "data.deep", "evaluate.cfg.deep"):
        assert kind_of(settings, unknown) == (None, False)
        with pytest.raises(DD2Error, match="Setting"):
            load_config(["preset=tiny", f"{unknown}=1"])
