"""DD1-style warm start of the generator: `python -m train.warm preset=fashion-llamagen`.

Section `warm` of the settings, a DD1 stage of its own whose result the stage csd starts from with
`csd.start=warm`. `warm.steps=0`, the default, is no warm start.
"""

from train.dd1 import regress
from train.settings.cli import main
from train.settings.schema import Config


def run(cfg: Config) -> None:
    """The stage warm, if it has steps."""
    if cfg.warm.steps > 0:
        regress(cfg, "warm")


if __name__ == "__main__":
    main(run)
