"""The results tables of README.md and docs/, made from files: `python -m train.report preset=NAME`.

Reads `docs/results` and `assets/*/results/*.json`, which `train.evaluate` and `train.benchmark`
wrote, and rewrites what stands between marker lines in README.md (models, results) and in
docs/experiments.md (what was tried), and all of docs/results.md. No number is typed in. Also writes
the preset's picture `assets/NAME/comparison.png`; with `page=true` it leaves assets alone.

Which command writes which row is said in `train.results.rows`.
"""

from pathlib import Path

from dd2core.errors import DD2Error
from dd2core.results import tables
from dd2core.results.collection import load_results
from dd2core.store.files import write_atomic, write_manifest
from dd2core.store.names import RESULTS
from train.publish.comparison import comparison
from train.results import front, page
from train.results.measured import OWN
from train.settings.cli import ROOT, main
from train.settings.schema import Config

MARKERS = "<!-- {0} begin -->", "<!-- {0} end -->"
ASSETS, README, EXPERIMENTS = ROOT / "assets", ROOT / "README.md", ROOT / "docs/experiments.md"


def replaced(text: str, name: str, table: str) -> str:
    """`text` with a table between the marker lines of a name.

    Raises:
        DD2Error: it has no such lines.
    """
    begin, end = (marker.format(name) for marker in MARKERS)
    if begin not in text or end not in text:
        raise DD2Error(f"There are no lines {begin} and {end}: put them where the table goes.")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"


def pages(assets: Path = ASSETS, own: Path = OWN) -> dict[Path, str]:
    """The text of every page that has made tables, as the files give it."""
    readme, experiments = (path.read_text(encoding="utf-8") for path in (README, EXPERIMENTS))
    readme = replaced(readme, "models", front.models(assets, own))
    readme = replaced(readme, "results", front.results(assets, own))
    for name in front.shipped(assets):
        tried = tables.tried_table(load_results(assets / name / RESULTS))
        if tried:
            experiments = replaced(experiments, f"tried with {name}", tried)
    return {README: readme, EXPERIMENTS: experiments, page.PAGE: page.page(own, assets)}


def run(cfg: Config) -> None:
    """Rewrite the made parts of README.md and docs/; and the preset's picture."""
    folder = ASSETS / cfg.name
    if cfg.dry_run:
        print(f"report: {folder / RESULTS} would be shown; dry run, nothing written")
        return
    if not cfg.report.page:
        comparison(load_results(folder / RESULTS), folder / "comparison.png")
        write_manifest(folder)
    for path, text in pages().items():
        write_atomic(path, text.encode())
        print(f"report: wrote {path}")


if __name__ == "__main__":
    main(run, "report")
