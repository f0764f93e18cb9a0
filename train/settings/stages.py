"""The stages of an experiment: one list, in the order in which they run."""

from dd2core.store.names import ADAPT, CLASSIFIER, SAMPLES, STAGES
from train.settings.schema import Config

TRAINED = tuple(s for s in STAGES if s not in (ADAPT, SAMPLES))  # what every preset trains
ALL = (*STAGES, "export", "evaluate")  # of train.all
PARALLEL = (  # that torchrun may start
    "tokenizer", "teacher", ADAPT, "samples", "gts", "warm", "csd", "tune", "dd1")


def order(cfg: Config) -> tuple[str, ...]:
    """The stages in the order in which `train.all` runs them: the classifier comes first where the
    tokenizer's perceptual term looks with it."""
    if cfg.tokenizer.perceptual > 0 and cfg.tokenizer.perceptual_net == CLASSIFIER:
        return (CLASSIFIER, *(stage for stage in STAGES if stage != CLASSIFIER))
    return STAGES


def distilled(cfg: Config) -> str:
    """The stage whose generator is the result: tune where the preset has it, else csd."""
    return "tune" if cfg.tune.steps > 0 else "csd"
