"""The results tables of the README, made from files: `python -m train.report preset=NAME`.

Reads `assets/NAME/results/*.json`, which `train.evaluate` and `train.benchmark` wrote, and rewrites
the part of README.md between the preset's two marker lines. No number is typed in. Also writes the
picture `assets/NAME/comparison.png`.
"""

from pathlib import Path

from dd2core.errors import DD2Error
from dd2core.results.tables import (
    commands,
    guidance_table,
    quality_table,
    refine_table,
    speed_table,
    training_table,
    tried_table,
)
from dd2core.store.files import write_atomic, write_manifest
from train.publish.comparison import comparison
from train.settings.cli import ROOT, main
from train.settings.schema import Config

MARKERS = "<!-- results of {0} begin -->", "<!-- results of {0} end -->"


def section(results: Path) -> str:
    """Everything between the marker lines."""
    parts = [quality_table(results), commands(results, "quality", "guidance", "refine", "speed")]
    parts += ["What training took (2 CPU cores, shared with other work):",
              training_table(results.parent / "logs")]
    if table := guidance_table(results):
        parts += ["The teacher by guidance scale:", table]
    if table := refine_table(results):
        parts += ["Between the two: one step, then the teacher from a step on (`sampler=refine`):",
                  table]
    if table := speed_table(results):
        parts += ["Speed:", table]
    if table := tried_table(results):
        parts += ["Estimates along the way (see *What we tried*):", table]
    return "\n\n".join(parts)


def run(cfg: Config) -> None:
    """Rewrite the preset's results in README.md."""
    results, readme = ROOT / "assets" / cfg.name / "results", ROOT / "README.md"
    text = readme.read_text()
    begin, end = (marker.format(cfg.name) for marker in MARKERS)
    if begin not in text or end not in text:
        raise DD2Error(f"README.md has no lines {begin} and {end}: put them where results go.")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    comparison(results, results.parent / "comparison.png")
    write_manifest(results.parent)
    write_atomic(readme, f"{before}{begin}\n{section(results)}\n{end}{after}".encode())
    print(f"report: README.md now shows {results}")


if __name__ == "__main__":
    main(run)
