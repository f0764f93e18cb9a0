"""The stages of an experiment: one list, in the order in which they run."""

from dd2core.store.names import SAMPLES, STAGES
from train.settings.schema import Config

TRAINED = tuple(stage for stage in STAGES if stage != SAMPLES)  # each has a section `Stage`
ALL = (*STAGES, "export", "evaluate")  # of train.all
PARALLEL = ("teacher", "samples", "gts", "warm", "csd", "tune", "dd1")  # that torchrun may start


def distilled(cfg: Config) -> str:
    """The stage whose generator is the result: tune where the preset has it, else csd."""
    return "tune" if cfg.tune.steps > 0 else "csd"
