"""A command line → settings: dataclass defaults ← YAML preset ← `key=value` words (OmegaConf).

What a word means is decided by the type of its setting (`train.settings.words`); an unknown key is
an error. `python -m train.STAGE preset=NAME` reads `train/presets/NAME.yaml`; `preset=` also takes
a path."""

import functools
import sys
from dataclasses import fields
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dd2core.errors import DD2Error
from train.settings.help import WORDS, help_text
from train.settings.ranges import check_ranges
from train.settings.schema import Config
from train.settings.words import parse, put, refuse_unquoted

SCORED = ("samples", "gts", "csd", "tune", "warm", "dd1")  # sections that have a `sampling`
PRESETS = Path(__file__).parents[1] / "presets"
_schema = functools.cache(OmegaConf.structured)  # merging copies it


ROOT = Path(__file__).parents[2]


def split_words(args: list[str]) -> dict[str, str]:
    """Key and value of `key=value` words.

    Raises:
        DD2Error: a word is none.
    """
    words = {}
    for word in args:
        key, eq, value = word.partition("=")
        if not eq or not key:
            raise DD2Error(f"{word!r} is no setting: write key=value, for example seed=1.")
        words[key.lstrip("-")] = value
    return words


def load_settings(kind: type, args: list[str]):
    """A command line without presets: the dataclass `kind` with the values given.

    Raises:
        DD2Error: an unknown key, or a value that is missing or of the wrong type.
    """
    words = split_words(args)
    try:
        given, strings = parse(kind, words)
        return put(OmegaConf.to_object(OmegaConf.merge(_schema(kind), given)), strings)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        known = ", ".join(f.name for f in fields(kind))
        key = getattr(error, "full_key", None) or ", ".join(words)
        raise DD2Error(f"Setting {key}: {first} (there are {known}).") from None


def load_config(args: list[str], flat: str | None = None) -> Config:
    """Resolve a command line.

    Args:
        args (list[str]): `key=value` words; `preset=NAME` names the YAML file.
        flat (str | None): a section whose keys may also be given bare (`n=100` for
            `evaluate.n=100`).

    Raises:
        DD2Error: an unknown key or preset, or a value of the wrong type.
    """
    words = split_words(args)
    preset = words.pop("preset", "fashion-llamagen")
    schema = _schema(Config)
    if flat is not None:
        words = {f"{flat}.{k}" if k in schema[flat] else k: v
                 for k, v in words.items()}
    try:
        given, strings = parse(Config, words)
        path = find_preset(preset)
        found, base = _preset(path, _bytes(path))
        merged = _with_sampling(OmegaConf.merge(base, given), found, given)
        return _checked(put(OmegaConf.to_object(merged), strings))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        key = getattr(error, "full_key", None) or ", ".join(words)
        raise DD2Error(f"Setting {key}: {first} (train/settings/schema.py lists all).") from None


@functools.lru_cache(maxsize=32)
def _preset(path: Path, written: bytes) -> tuple[DictConfig, DictConfig]:
    """What a preset's file holds, and that on top of the defaults; merging copies both. `written`
    are its bytes: half of the time of reading settings is spent here, and tests read thousands."""
    found = _read(path)
    return found, OmegaConf.merge(_schema(Config), found)


def _with_sampling(merged: DictConfig, *given: DictConfig) -> DictConfig:
    """A stage's own `sampling` starts from the preset's: `csd.sampling.cfg=2` keeps its top-k."""
    for stage in SCORED:
        own = [OmegaConf.select(part, f"{stage}.sampling") for part in given]
        parts = [part for part in own if part is not None]
        merged[stage].sampling = OmegaConf.merge(merged.sampling, *parts)
    return merged


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # which `_read` says in a sentence
        return b""


def _read(path: Path) -> DictConfig:
    try:
        found = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        found = None
    if not isinstance(found, DictConfig):
        raise DD2Error(f"{path} is no preset: it must be YAML of settings, as in train/presets.")
    refuse_unquoted(Config, OmegaConf.to_container(found), str(path))
    return found


def _checked(cfg: Config) -> Config:
    """`cfg`, if its numbers are possible."""
    check_ranges(cfg)
    t = cfg.tokenizer
    if len(t.mult) != len(t.res_blocks):
        raise DD2Error(f"tokenizer.mult={t.mult} and tokenizer.res_blocks={t.res_blocks} must "
                       "have one number per level each.")
    if t.decoder_res_blocks is not None and len(t.decoder_res_blocks) != len(t.mult):
        raise DD2Error(f"tokenizer.decoder_res_blocks={t.decoder_res_blocks} must have one number "
                       f"per level of tokenizer.mult={t.mult}, or be null.")
    if t.decoder_only and not t.init:
        raise DD2Error("tokenizer.decoder_only=true keeps the encoder and the codes of a trained "
                       "tokenizer: name its file by tokenizer.init=.")
    if t.groups < 1 or any(t.width * m % t.groups for m in (1, *t.mult)):
        raise DD2Error(f"tokenizer.groups={t.groups} must divide tokenizer.width times each of "
                       "tokenizer.mult.")
    return cfg


def find_preset(name: str) -> Path:
    """The YAML file of a preset, by name or path.

    Raises:
        DD2Error: there is none; lists those that exist.
    """
    for path in (PRESETS / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
    raise DD2Error(f"There is no preset {name!r}: choose one of {known}, or give a YAML file.")


def _config(args: list[str], flat: str | None) -> Config:
    """The settings; those of the code alone where help is asked for without a preset."""
    asked = len(args) < len(sys.argv) - 1 and not any(a.startswith("preset=") for a in args)
    return Config() if asked else load_config(args, flat)


def main(run, flat: str | None = None, kind: type | None = None) -> None:
    """Run a command line: `run(cfg)`, with one clear sentence for the errors a user can mend; or
    print its help.

    Args:
        run (Callable): takes the settings.
        flat (str | None): see `load_config`.
        kind (type | None): the settings of a command without presets; None is `Config`.
    """
    try:
        args = [word for word in sys.argv[1:] if word not in WORDS]
        cfg = load_settings(kind, args) if kind else _config(args, flat)
        if len(args) < len(sys.argv) - 1:
            print(help_text(sys.modules[run.__module__], cfg, flat))
        else:
            run(cfg)
    except DD2Error as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped: the same command again resumes from the last saved step.")
