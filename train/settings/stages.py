"""The stages of an experiment: one list, in the order in which they run."""

from train.settings.schema import Config


def distilled(cfg: Config) -> str:
    """The stage whose generator is the result: tune where the preset has it, else csd."""
    return "tune" if cfg.tune.steps > 0 else "csd"
