"""Settings: defaults ← preset ← command line, and one sentence for every mistake."""

import ast
import dataclasses
import inspect
from typing import get_type_hints

import pytest
import yaml

from dd2core import csd, gts, losses, sampling
from dd2core.errors import DD2Error
from dd2core.sampling import Sampling
from tests.support.train_helpers import cli
from train.engine.run_folder import run_folder
from train.settings import schema as config
from train.settings.cli import PRESETS, find_preset, load_config, main
from train.settings.ranges import RANGES
from train.settings.schema import Config

NAMES = sorted(p.stem for p in PRESETS.glob("*.yaml"))
TOKENIZERS = ("vq-16", "vqvae-var")  # of a tokenizer alone


def refused(*words: str, flat: str | None = None) -> str:
    """The sentence that a command line is refused with."""
    with pytest.raises(DD2Error) as error:
        load_config(list(words), flat)
    sentence = str(error.value)
    assert "\n" not in sentence and len(sentence) < 400
    return sentence


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_preset_loads_under_its_own_name(name):
    cfg = load_config([f"preset={name}"])
    assert isinstance(cfg, Config) and cfg.name == name
    given = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    if cfg.base is None and name not in TOKENIZERS:  # a base brings its own teacher
        assert cfg.teacher.steps == given["teacher"]["steps"] > 0


def test_command_line_beats_preset_beats_default(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nteacher:\n  steps: 11\n  batch: 12\n")
    cfg = load_config([f"preset={path}", "teacher.batch=13"])
    default = Config().teacher
    assert (cfg.teacher.steps, cfg.teacher.batch, cfg.teacher.depth) == (11, 13, default.depth)
    assert cfg.name == "mine" and run_folder(cfg).parts[-2:] == ("runs", "mine")
    assert run_folder(load_config([f"preset={path}", f"out={tmp_path}"])) == tmp_path


def test_values_get_their_types():
    cfg = load_config(["preset=tiny", "tokenizer.lr=3e-4", "tokenizer.mult=[1,2,3]", "threads=null",
                       "dry_run=true", "--seed=3", "data=/a=b"])
    assert cfg.tokenizer.lr == 3e-4 and cfg.tokenizer.mult == [1, 2, 3] and cfg.threads is None
    assert cfg.dry_run is True and cfg.seed == 3 and cfg.data == "/a=b"


def test_unknown_key_is_named():
    assert "teacher.stepz" in refused("teacher.stepz=3")
    assert "stepz" in refused("stepz=3")


def test_unknown_key_in_a_preset_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("teacher:\n  stepz: 11\n")
    assert "teacher.stepz" in refused(f"preset={path}")


@pytest.mark.parametrize("word", ["seed=abc", "teacher.steps=1.5", "tokenizer.lr=fast",
                                  "dry_run=maybe", "tokenizer.mult=[1,x]", "teacher=3"])
def test_a_value_of_the_wrong_type_names_the_key(word):
    assert word.partition("=")[0] in refused(word)


@pytest.mark.parametrize("word", ["tokenizer.mult=[1,2", "csd.average={a", "seed=1:\n-"])
def test_a_value_that_is_no_yaml_is_one_sentence(word):
    assert refused(word).endswith(".")


def test_a_word_without_a_value_says_how_to_write_it():
    assert "key=value" in refused("dry_run") and "'dry_run'" in refused("dry_run")
    assert "key=value" in refused("=3")


def test_an_unknown_preset_lists_the_known():
    sentence = refused("preset=fashion")
    assert all(name in sentence for name in NAMES) and "fashion" in sentence


@pytest.mark.parametrize("text", ["teacher: [1, 2", "- 1\n- 2\n", "just words"])
def test_a_preset_that_is_no_settings_file_is_one_sentence(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert refused(f"preset={path}").endswith(".")


def test_bare_keys_reach_their_section_and_no_other():
    cfg = load_config(["preset=tiny", "n=100", "sampler=teacher", "cfg=2.5"], "evaluate")
    assert (cfg.evaluate.n, cfg.evaluate.sampler, cfg.evaluate.cfg) == (100, "teacher", 2.5)
    assert cfg.csd.sampling == cfg.sampling and cfg.sampling.cfg != 2.5
    # `seed` exists at the top as well: to a command that does not train, the bare word is its own.
    assert load_config(["seed=5"], "evaluate").evaluate.seed == 5
    assert "n" in refused("n=100")


def test_the_preset_is_found_by_name_before_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_text("name: other\n")
    assert find_preset("tiny") == PRESETS / "tiny.yaml"


def test_main_prints_one_sentence_and_exits_with_1(monkeypatch):
    assert cli("tokenizer", "nonsense=1").startswith("error: ")
    monkeypatch.setattr("sys.argv", ["x", "preset=tiny"])

    def interrupted(cfg):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="the same command again resumes"):
        main(interrupted)


def fields() -> list[tuple[str, str, str]]:
    """(class and field, annotation, last source line) of every setting of the schema, and of the
    trainers' options that its stages inherit."""
    out = []
    for module in (config, csd, gts, losses, sampling):
        source = inspect.getsource(module)
        lines = source.splitlines()
        for node in ast.parse(source).body:
            is_setting = isinstance(node, ast.ClassDef) and (
                module is config or node.name.endswith("Options") or node.name == "Sampling")
            if not is_setting:
                continue
            assert ast.get_docstring(node), f"{node.name} has no docstring"
            out += [(f"{node.name}.{f.target.id}", ast.unparse(f.annotation),
                     lines[f.end_lineno - 1]) for f in node.body if isinstance(f, ast.AnnAssign)]
    return out


def test_every_setting_says_what_it_is():
    found = {name: (kind, line) for name, kind, line in fields()}
    some = {"Stage.steps", "CSDLossOptions.alpha", "ScoreOptions.times", "Sampling.top_k"}
    assert some <= found.keys()
    sections = {name for name, (kind, _) in found.items() if hasattr(config, kind)}
    assert {"Config.teacher", "Config.evaluate"} <= sections
    for name in found.keys() - sections:
        kind, line = found[name]
        comment = line.partition("  # ")[2]
        assert comment, f"{name} has no comment at the end of its line"
        assert "None" not in kind or "None" in comment, f"{name}: say what None means"


SCORED = ("gts", "csd", "tune", "warm", "dd1")


def test_the_score_of_training_is_under_the_presets_sampling(tmp_path):
    """Training distils the teacher that is sampled: guidance and filters alike."""
    path = tmp_path / "mine.yaml"
    path.write_text("sampling: {cfg: 2.5, temperature: 0.9, top_k: 7, top_p: 0.8}\n")
    cfg = load_config([f"preset={path}"])
    assert cfg.sampling == Sampling(2.5, 0.9, 7, 0.8)
    assert all(getattr(cfg, stage).sampling == cfg.sampling for stage in SCORED)


@pytest.mark.parametrize("stage", SCORED)
def test_a_stages_own_sampling_starts_from_the_presets(stage, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("sampling: {cfg: 2.5, top_k: 7}\n" f"{stage}: {{sampling: {{top_p: 0.5}}}}\n")
    cfg = load_config([f"preset={path}", f"{stage}.sampling.cfg=3", "sampling.temperature=0.7"])
    assert getattr(cfg, stage).sampling == Sampling(3.0, 0.7, 7, 0.5)
    assert cfg.sampling == Sampling(2.5, 0.7, 7, 1.0)
    others = [getattr(cfg, name).sampling for name in SCORED if name != stage]
    assert others == [cfg.sampling] * 4


@pytest.mark.parametrize("word, said", [
    ("csd.form=kl", "form=kl is unknown: use sid or dmd"),
    ("tune.form=", "form= is unknown"),
    ("csd.start=dd1", "start=dd1 is unknown: use gts, warm, csd"),
    ("csd.pair_share=1.5", "pair_share=1.5 must be a number in [0, 1]"),
    ("sampling.top_p=0", "top_p=0.0 must lie in"),
    ("gts.sampling.top_k=-1", "top_k=-1 must be a whole number"),
    ("sampling.temperature=0", "temperature=0.0 must be a positive number"),
    ("sampling.cfg=nan", "must be a finite number"),
])
def test_an_impossible_choice_is_refused_when_settings_are_read(word, said):
    assert said in refused(word)


@pytest.mark.parametrize("word", ["csd.form=sid", "csd.start=warm", "family=var"])
def test_a_choice_in_words_arrives(word):
    key, _, value = word.partition("=")
    *sections, name = key.split(".")
    cfg = load_config([word])
    assert getattr(getattr(cfg, sections[0]) if sections else cfg, name) == value


def test_every_number_among_the_settings_has_a_range():
    """Also those that are None by default: a value given later must not end in a KeyError."""
    checked = {"temperature", "top_k", "top_p"}  # by `Sampling`

    def missing(kind: type) -> set[str]:
        names = set()
        for name, hint in get_type_hints(kind).items():
            if dataclasses.is_dataclass(hint):
                names |= missing(hint)
            elif any(number in str(hint) for number in ("int", "float")) and hint is not bool:
                names |= {name} - RANGES.keys() - checked
        return names

    assert missing(config.Config) == set()
