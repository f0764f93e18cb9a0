"""Where the files of an experiment are."""

from pathlib import Path

from dd2core.store import names
from train.settings.cli import ROOT
from train.settings.schema import Config


def run_folder(cfg: Config) -> Path:
    """Where this experiment's stages live."""
    return Path(cfg.out) if cfg.out else ROOT / "runs" / names.safe_name(cfg.name, "name")


def perceptual_file(cfg: Config) -> Path | None:
    """The weights that the tokenizer's perceptual term looks with; None where it is off."""
    o = cfg.tokenizer
    if o.perceptual <= 0:
        return None
    if o.perceptual_net == names.CLASSIFIER:  # this run's
        return run_folder(cfg) / names.CLASSIFIER / names.weights(names.CLASSIFIER)
    return Path(o.perceptual_net)


def first_weights(cfg: Config, start: str) -> tuple[Path, Path]:
    """Files that generator and guidance network start from (see `CSDStage.start`)."""
    run = run_folder(cfg)
    generator, guidance = names.weights("generator"), names.weights("guidance")
    gts = run / "gts" / generator
    if start == "csd":
        return run / "csd" / generator, run / "csd" / guidance
    return (run / cfg.warm.name / generator if start == "warm" else gts), gts
