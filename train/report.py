"""The results tables of the README, made from files: `python -m train.report preset=NAME`.

Reads `assets/NAME/results/*.json`, which `train.evaluate` and `train.benchmark` wrote, and rewrites
the part of README.md between the preset's two marker lines. No number is typed in. Also writes the
picture `assets/NAME/comparison.png`, and docs/results.md, the paper's tables beside our numbers.

`page=true` writes docs/results.md alone, from `docs/results` and `assets/*/results`: which command
writes which of its rows is said in `train.results.rows`.
"""

from dd2core.errors import DD2Error
from dd2core.results import tables
from dd2core.results.collection import Results, load_results
from dd2core.results.training import training_table
from dd2core.store.files import write_atomic, write_manifest
from dd2core.store.names import RESULTS
from train.publish.comparison import comparison
from train.results import page
from train.results.measured import OWN
from train.settings.cli import ROOT, main
from train.settings.schema import Config

MARKERS = "<!-- results of {0} begin -->", "<!-- results of {0} end -->"


def section(results: Results) -> str:
    """Everything between the marker lines."""
    parts = [
        ("", tables.quality_table(results)),
        ("", tables.commands(results, "quality", "guidance", "refine", "speed")),
        ("What training took (2 CPU cores, shared with other work):",
         training_table(results.folder.parent / "logs")),
        ("The teacher by guidance scale:", tables.guidance_table(results)),
        ("Between the two: one step, then the teacher from a step on (`sampler=refine`):",
         tables.refine_table(results)),
        ("Speed:", tables.speed_table(results)),
        ("Estimates along the way (see *What we tried*):", tables.tried_table(results)),
    ]
    return "\n\n".join(text for head, table in parts if table for text in (head, table) if text)


def run(cfg: Config) -> None:
    """Rewrite the preset's results in README.md, and docs/results.md."""
    if not cfg.dry_run:
        write_atomic(page.PAGE, page.page(OWN, ROOT / "assets").encode())
        print(f"report: wrote {page.PAGE}")
    if cfg.report.page:
        return
    folder, readme = ROOT / "assets" / cfg.name, ROOT / "README.md"
    results, text = load_results(folder / RESULTS), readme.read_text(encoding="utf-8")
    begin, end = (marker.format(cfg.name) for marker in MARKERS)
    if begin not in text or end not in text:
        raise DD2Error(f"README.md has no lines {begin} and {end}: put them where results go.")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    shown = f"{before}{begin}\n{section(results)}\n{end}{after}"
    if cfg.dry_run:
        print(f"report: {results.folder} would be shown; dry run, nothing written")
        return
    comparison(results, folder / "comparison.png")
    write_manifest(folder)
    write_atomic(readme, shown.encode())
    print(f"report: README.md now shows {results.folder}")


if __name__ == "__main__":
    main(run, "report")
