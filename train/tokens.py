"""The data as tokens: `python -m train.tokens preset=llamagen-l`.

Every stage that needs them makes them on its own; before a stage that runs in several processes,
this makes them once, in one process, for all. Nothing is trained.
"""

from train.data.tokens import load_tokens
from train.engine import loop
from train.engine.assemble import load_tokenizer
from train.engine.distributed import single_process
from train.settings.cli import main
from train.settings.schema import Config


def run(cfg: Config) -> None:
    """Tokenise the data set, if it has not been."""
    device = loop.setup(cfg)
    single_process("tokens")
    if cfg.dry_run:
        print("tokens: dry run, nothing written")
        return
    data = load_tokens(cfg, load_tokenizer(cfg, device), device)
    print(f"tokens: {len(data.tokens)} + {len(data.test_tokens)} images of "
          f"{data.tokens.shape[1]} tokens")


if __name__ == "__main__":
    main(run)
