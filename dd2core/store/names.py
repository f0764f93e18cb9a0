"""Every file name of a model folder and of a run, written once; and names that may become one."""

import unicodedata
from pathlib import Path

from dd2core.errors import DD2Error

# A model folder
CONFIG = "config.json"
MANIFEST = "manifest.json"
PARTS = ("tokenizer", "teacher", "generator", "guidance")  # its networks, `weights(part)` each
NEEDED_PARTS = ("tokenizer", "teacher")
CLASSIFIER = "classifier"  # the feature extractor: `weights(CLASSIFIER)`
REFERENCE = "reference.npz"  # statistics of the held-out images' features
JUDGE = "judge"  # a second extractor that nothing was chosen by: `weights(JUDGE)`
JUDGE_SETTINGS = "judge.json"  # its sizes, and how it was trained
JUDGE_REFERENCE = "judge-reference.npz"  # as REFERENCE, of its features
NEIGHBOURS = "neighbours.safetensors"  # the training images to search in, if it was made
RESULTS = "results"  # folder of what was measured
LOGS = "logs"  # folder of what training said

# A run: a folder per stage
ADAPT, ADAPT_FIT = "adapt", "adapt_fit"  # the teacher that takes vectors, and its MLP alone
STAGES = (  # in order
    "tokenizer", "classifier", "teacher", ADAPT, "samples", "gts", "warm", "csd", "tune")
MODEL = "model"  # folder that the stage export writes
EVALUATE = "evaluate"  # folder of measurements
BENCHMARK = "benchmark.json"
STATE = "state.pt"  # all that a resumed run needs
LOG = "log.jsonl"
SETTINGS = "config.yaml"  # the resolved settings
ORIGIN = "origin.json"  # what the stage is made of: settings, data, weights before it
RESULT = "result.json"
MACHINES = "machines.jsonl"  # which have trained it: `train.engine.record.provenance`
LOCK = ".lock"
TOKENS = "tokens"  # folder of those of the data set
TOKENS_ORIGIN = Path(TOKENS, "source.json")
CLASSES = Path(TOKENS, "classes.json")
LEFT_OUT = "left-out.txt"  # pictures that could not be read
SAMPLES = "samples"  # folder of the token sequences that the teacher drew
SAMPLES_ORIGIN = Path(SAMPLES, "source.json")
PAIRS = "dd1-pairs"  # folder of DD1's (ε, tokens)

LONGEST = 100  # characters of a name that becomes a file name
RESERVED = frozenset(  # by Windows, with any ending
    ["con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))]
)


def weights(part: str) -> str:
    """The file of a network: `generator` → `generator.safetensors`, in every stage and model."""
    return f"{part}.safetensors"


def snapshot(step: int) -> str:
    """The file of the generator's average at a step."""
    return weights(f"generator-{step:06d}")


def grid(step: int) -> str:
    """The file of the sample grid at a step."""
    return f"grid-{step:06d}.png"


def step_of(path: Path) -> int | None:
    """The step in the name of a snapshot or grid; None if there is none in it."""
    end = path.stem.rpartition("-")[2]
    return int(end) if end.isascii() and end.isdigit() else None


def safe_name(name: str, what: str) -> str:
    """`name`, if a file or folder of that name stays in its folder on every system.

    Args:
        name (str): of a model, a run, a result.
        what (str): where it was given, for the message.

    Raises:
        DD2Error: it is empty, too long, starts with a dot, or has a separator or a character that
            is not printed.
    """
    bad = set('/\\:*?"<>|') & set(name)
    if (not name.strip() or len(name) > LONGEST or name.startswith(".") or name != name.strip()
            or bad or not name.isprintable()):
        raise DD2Error(
            f"{what}={name[:LONGEST]!r} becomes a file name: use at most {LONGEST} letters, "
            "digits, spaces, - and _, and no dot in front."
        )
    return name


def as_file_name(text: str, fallback: str = "unnamed", longest: int = LONGEST) -> str:
    """A file name, without ending, for any text; one that is a plain name already stays as it is.

    Letters and digits of every script, `-`, `_` and single inner dots stay; everything else, such
    as `/`, `\\`, `:`, a space or a control character, becomes `-`.

    Args:
        text: any text.
        fallback: what an empty name, or one of dots and dashes alone, becomes.
        longest: most bytes of the name in UTF-8.

    Returns:
        str: of 1 to `longest` bytes in UTF-8, in normal form C; starts with no dot or dash.
    """
    text = unicodedata.normalize("NFC", text[: 4 * longest])
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
    while ".." in plain:
        plain = plain.replace("..", ".")
    plain = plain.lstrip("-.").encode("utf-8")[:longest].decode("utf-8", "ignore").rstrip("-.")
    if plain.partition(".")[0].lower() in RESERVED:  # of at most five letters
        plain = f"_{plain}"
    return plain or fallback
