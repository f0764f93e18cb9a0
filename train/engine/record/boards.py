"""Where curves are shown beside `log.jsonl`: TensorBoard and Weights & Biases, if asked for."""

import dataclasses
import hashlib
from pathlib import Path

from dd2core.errors import DD2Error
from train.settings.schema import Config


class Boards:
    """The boards that the settings ask for; none at all by default.

    Args:
        cfg (Config): see `tensorboard` and `wandb` there.
        stage (str): its numbers are named `stage/number`.
        folder (Path): the stage's.
        first (int): steps done before; later ones are shown anew.

    Raises:
        DD2Error: a package is missing.
    """

    def __init__(self, cfg: Config, stage: str, folder: Path, first: int):
        self.stage = stage
        self.tensorboard = _tensorboard(folder, first) if cfg.tensorboard else None
        self.wandb = _wandb(cfg, stage, folder) if cfg.wandb else None

    def add(self, step: int, numbers: dict[str, float]) -> None:
        """Show a line of the log."""
        named = {f"{self.stage}/{k}": v for k, v in numbers.items()}
        for name, value in named.items() if self.tensorboard else ():
            self.tensorboard.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(named, step=step)

    def close(self) -> None:
        """Write what is not written yet."""
        if self.tensorboard:
            self.tensorboard.close()
        if self.wandb:
            self.wandb.finish()


def _tensorboard(folder: Path, first: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise DD2Error("tensorboard=true needs the package: pip install tensorboard.") from None

    return SummaryWriter(folder / "tensorboard", purge_step=first + 1)


def _wandb(cfg: Config, stage: str, folder: Path):
    try:
        import wandb
    except ImportError:
        raise DD2Error("wandb=true needs the package: pip install wandb.") from None

    # The same folder is the same curve, also after a resume.
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return wandb.init(project="dd2", name=f"{cfg.name} {stage}", id=name, resume="allow",
                      dir=str(folder), config=dataclasses.asdict(cfg))
