"""The table of `python -m train.toy`."""

from pathlib import Path
from statistics import mean

from dd2core.errors import DD2Error
from dd2core.results.markdown import markdown_table
from dd2core.store.files import read_json

TITLES = {"true": "the joint itself, as many draws", "parallel": "all tokens at once",
          "dd1": "DD1, one step", "dd2_dmd": "DD2, one step, DMD form",
          "dd2_sid": "DD2, one step, SiD form"}
TEXT = """Total variation, ½ Σ |p̂ − p|, between the sampled joint and the true one: 0 is perfect.
Two tokens that are (0, 0) or (1, 1); and a Potts field of 2 × 2 places with three states in raster
order. The teacher is exact there, so what is off is the distillation's. The same network, the same
start (GTS) and as many steps for DD1 and DD2; the first row is what so many draws of the truth
itself give."""


def table(path: Path) -> str:
    """Mean and range over the seeds of each method; "not run" without the file.

    Raises:
        DD2Error: the file is damaged.
    """
    if not path.exists():
        return "Not run: `python -m train.toy`."
    found = read_json(path)
    try:
        names = list(found["toys"])
        lines = [[title, *(_shown([seed[key] for seed in found["toys"][name]]) for name in names)]
                 for key, title in TITLES.items()]
        b = found["budget"]
        text = (f"{found['seeds']} seeds, {b['samples']:,} samples each; GTS {b['gts']} steps, DD1 "
                f"and DD2 {b['distil']} of {b['batch']} sequences. `{found['command']}`")
    except (KeyError, TypeError, ValueError, IndexError):
        raise DD2Error(f"{path} is not what train.toy writes: run it again.") from None
    return markdown_table(("", *names), lines) + f"\n\n{text}"


def _shown(values: list[float]) -> str:
    return f"{mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"
