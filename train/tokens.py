"""The data as tokens: `python -m train.tokens preset=llamagen-l`.

Every stage that needs them makes them on its own; this makes them before, with torchrun in several
processes, of which each writes its share of the files. A killed run keeps its finished files and
goes on, with any number of processes. Nothing is trained.
"""

from train.data.tokens import load_tokens
from train.engine import loop
from train.engine.assemble import load_tokenizer
from train.engine.distributed import is_main
from train.settings.cli import main
from train.settings.schema import Config


def run(cfg: Config) -> None:
    """Tokenise the data set, if it has not been."""
    device = loop.setup(cfg)
    if cfg.dry_run:
        print("tokens: dry run, nothing written")
        return
    data = load_tokens(cfg, load_tokenizer(cfg, device), device)
    if is_main():
        print(f"tokens: {len(data.tokens)} + {len(data.test_tokens)} sequences of "
              f"{data.tokens.shape[1]} tokens")


if __name__ == "__main__":
    main(run)
