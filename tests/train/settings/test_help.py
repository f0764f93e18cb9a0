"""`--help` of every command prints each of its settings with default and meaning, and exits 0."""

import dataclasses
import importlib
import subprocess
import sys

import pytest

from dd2core.sampling import Sampling
from train import __main__ as listing
from train.settings import cli, help
from train.settings.cli import ROOT, load_config
from train.settings.schema import Config

COMMANDS = sorted(p.stem for p in (ROOT / "train").glob("*.py") if not p.stem.startswith("_"))
KINDS = {"convert": "Convert", "emoji": "EmojiFolder", "fullsize": "FullSize", "toy": "Toy"}


def sections(values) -> list:
    return [values, *(getattr(values, f.name) for f in dataclasses.fields(values)
                      if dataclasses.is_dataclass(getattr(values, f.name)))]


def test_the_list_has_every_command_once():
    named = [name for commands in listing.COMMANDS.values() for name in commands]
    assert sorted(named) == COMMANDS
    lines = listing.listing().splitlines()
    for name in COMMANDS:
        [line] = [x for x in lines if x.split()[:1] == [name]]
        assert len(line.split()) > 2 and "`python" not in line


def test_every_setting_says_what_it_is():
    kinds = {type(part) for part in sections(Config())} | {Sampling}
    kinds |= {getattr(importlib.import_module(f"train.{m}"), k) for m, k in KINDS.items()}
    silent = {f"{kind.__name__}.{f.name}" for kind in kinds for f in dataclasses.fields(kind)
              if not help.meanings(kind).get(f.name)
              and not dataclasses.is_dataclass(f.type)}
    assert silent == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_settings_of_the_command(command, monkeypatch, capsys):
    module = importlib.import_module(f"train.{command}")
    values = getattr(module, KINDS[command])() if command in KINDS else Config()
    kind = type(values) if command in KINDS else None
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    cli.main(module.run, kind=kind)
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m train.{command} key=value …\n\n{module.__doc__[:20]}")
    own = getattr(values, command, None)
    shown = [values, own] if dataclasses.is_dataclass(own) else [values]
    for part in shown:
        prefix = "" if part is values else f"{command}."
        for field in dataclasses.fields(part):
            if not dataclasses.is_dataclass(getattr(part, field.name)):
                assert f"\n  {prefix}{field.name}={help.shown(getattr(part, field.name))}" in text
    assert max(map(len, text.splitlines())) <= 130


def test_with_a_preset_its_values_are_shown(monkeypatch, capsys):
    module = importlib.import_module("train.csd")
    monkeypatch.setattr(sys, "argv", ["csd", "preset=fashion-var", "-h"])
    cli.main(module.run)
    steps = load_config(["preset=fashion-var"]).csd.steps
    assert f"\n  csd.steps={steps} " in capsys.readouterr().out != Config().csd.steps


def test_asking_for_help_runs_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["csd", "help"])

    def run(cfg):
        raise AssertionError

    run.__module__ = "train.csd"
    importlib.import_module("train.csd")
    cli.main(run)
    assert "csd.form=dmd" in capsys.readouterr().out


def test_a_comment_that_goes_on_below_belongs_to_its_setting():
    told = help.meanings(Config)
    assert told["base"].endswith("hub id (owner/name@revision).") and "None" in told["out"]
    assert help.meanings(type(Config().csd))["sampling"].startswith("in the teacher's score")


def test_the_processes_exit_with_zero():
    for words in (["train"], ["train.toy", "--help"]):
        done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True,
                              text=True, check=True)
        assert done.stdout.startswith("usage: python -m train") and not done.stderr
