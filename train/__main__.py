"""The commands of this package: `python -m train` lists them."""

import ast
from pathlib import Path

COMMANDS = {  # in the order in which one meets them
    "everything, or one stage of it": (
        "all", "tokenizer", "classifier", "tokens", "teacher", "adapt", "samples", "gts", "warm",
        "csd", "tune", "export"),
    "what is measured": ("evaluate", "benchmark", "dd1", "neighbours", "toy", "fullsize"),
    "models and pictures from elsewhere": ("convert", "emoji"),
    "what is shown": ("report", "movie"),
}


def title(command: str) -> str:
    """The first sentence of a command's docstring, without the command itself."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].replace("\n", " ")
    return first.partition(": `python")[0].partition(", made by `python")[0].rstrip(".")


def listing() -> str:
    """All commands, a line each."""
    lines = ["usage: python -m train.COMMAND key=value …   (--help lists its settings)"]
    for head, commands in COMMANDS.items():
        lines += ["", f"{head}:", *(f"  {name.ljust(12)}{title(name)}" for name in commands)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(listing())
