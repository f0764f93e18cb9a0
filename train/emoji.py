"""A folder of emoji in six styles to train on: `python -m train.emoji out=data/emoji`.

The drawings come from npm packages of pinned versions, which the ordinary npm client fetches
(148 MiB, once). Pictures are on white, one folder per class; every tenth emoji of a class is held
out in all its styles and skin tones (`val`), the others are trained on with changed copies. Then:
`python -m train.all preset=pictures data=data/emoji`. See docs/pictures.md.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dd2core.errors import DD2Error
from train.data.emoji.classes import CLASSES
from train.data.emoji.drawings import STYLES, open_catalogue
from train.data.emoji.folder import Plan, all_drawings, build, finished
from train.data.emoji.packages import absent, find_packages
from train.data.emoji.render import need_rasteriser
from train.settings.cli import ROOT, main

CACHE = ROOT / ".cache" / "emoji"


@dataclass
class EmojiFolder:
    """Settings of `train.emoji`."""

    out: str = "data/emoji"  # folder to write
    size: int = 64  # pixels a side
    copies: int = 2  # changed copies of each picture to train on
    styles: str = "mixed"  # mixed: a class is a category; separate: a category in one style
    packages: str | None = None  # folder of the packages' .tgz files; None: .cache/emoji
    dry_run: bool = False  # say what would be fetched and written, and stop


def table(counts: dict[str, dict[str, int]]) -> str:
    """How many originals there are per class and style, as a Markdown table."""
    styles = [s for s in STYLES if any(s in row for row in counts.values())]
    order = [c for c in CLASSES if c in counts] + sorted(set(counts) - set(CLASSES))
    rows = [(name, *(counts[name].get(s, 0) for s in styles), sum(counts[name].values()))
            for name in order]
    sums = [sum(row[i] for row in rows) for i in range(1, len(styles) + 2)]
    lines = [("originals", *styles, "all"), ("---",) * (len(styles) + 2), *rows, ("all", *sums)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def summary(out: Path, about: dict) -> str:
    """What a finished folder holds."""
    n = about["totals"]
    left = about["left_out"]
    return (f"{table(about['originals'])}\n\n{out}: {n['train'] + n['copies']} pictures to train "
            f"on ({n['train']} originals, {n['copies']} copies, {n['mirrored']} of them mirrored), "
            f"{n['val']} held out, {len(about['originals'])} classes"
            + (f"; too few pictures for the classes {', '.join(left)}" if left else ""))


def _dry(out: Path, plan: Plan, folder: Path) -> None:
    if missing := absent(folder):
        print(f"would fetch {sum(p.mib for p in missing):.0f} MiB into {folder}: "
              + ", ".join(p.spec for p in missing))
    if missing:
        print(f"would write {out}, about 16,800 originals and {plan.copies} copies of nine tenths "
              "of them; how many per class is known when the packages are there")
        return
    packages = find_packages(folder)
    counts: dict[str, Counter] = {}
    for d in all_drawings(packages, open_catalogue(packages)):
        counts.setdefault(plan.class_of(d), Counter())[d.style] += 1
    print(table(counts))
    n = sum(sum(row.values()) for row in counts.values())
    print(f"\nwould write {out}: {n} originals, of which about a tenth are held out, and about "
          f"{round(0.9 * n) * plan.copies} copies")


def run(o: EmojiFolder) -> None:
    """Fetch, draw, split and write; a folder that is finished is only told of."""
    if o.styles not in ("mixed", "separate"):
        raise DD2Error(f"styles={o.styles} is unknown: use mixed or separate.")
    if not 8 <= o.size <= 512 or not 0 <= o.copies <= 100:
        raise DD2Error(f"size={o.size} must be from 8 to 512 and copies={o.copies} from 0 to 100.")
    out, folder = Path(o.out), Path(o.packages) if o.packages else CACHE
    plan = Plan(o.size, o.copies, o.styles == "separate")
    about = finished(out, plan)
    if about is None and o.dry_run:
        _dry(out, plan, folder)
        return
    if about is None:
        need_rasteriser()
        packages = find_packages(folder)
        about = build(out, plan, packages, open_catalogue(packages))
    print(summary(out, about))


if __name__ == "__main__":
    main(run, kind=EmojiFolder)
