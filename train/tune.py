"""More Conditional Score Distillation from where the stage csd ended, with other settings.

`python -m train.tune preset=fashion-llamagen`: section `tune` of the settings, a CSD stage of its
own (usually with less guidance, a constant learning rate and a long average). `tune.steps=0`, the
default, is no tuning.
"""

from train.csd import distil
from train.settings.cli import main
from train.settings.schema import Config


def run(cfg: Config) -> None:
    """The stage tune, if it has steps."""
    if cfg.tune.steps > 0:
        distil(cfg, "tune")


if __name__ == "__main__":
    main(run)
