"""Token sequences of the teacher: `python -m train.samples preset=var-d16`.

Section `samples` of the settings says how many, and under which sampling. Stages with
`gts.data=samples` learn from them, as in the paper, and draw them on their own if they are not
there; this draws them before, also in several processes (torchrun). A killed run keeps its finished
files and goes on, with any number of processes. Nothing is trained.
"""

from train.data.shards.samples import load_samples
from train.engine import loop
from train.engine.assemble import load_teacher
from train.engine.distributed import is_main
from train.engine.paths import run_folder
from train.settings.cli import main
from train.settings.schema import Config


def run(cfg: Config) -> None:
    """Draw the samples, if they have not been."""
    device = loop.setup(cfg)
    if cfg.dry_run:
        print(f"samples: {cfg.samples.n} sequences under {cfg.samples.sampling.keywords()}; dry "
              "run, nothing written")
        return
    data = load_samples(cfg, load_teacher(cfg, device))
    if is_main():
        print(f"samples: {len(data.tokens)} + {len(data.test_tokens)} sequences of "
              f"{data.tokens.shape[1]} tokens in {run_folder(cfg) / 'samples'}")


if __name__ == "__main__":
    main(run)
