"""The text of docs/results.md; see `train.results.rows` for which command writes which row."""

from pathlib import Path

from dd2core.results.markdown import ABSENT, cell, markdown_table
from dd2core.store.names import CLASSIFIER
from train.results import cost, rows, toy
from train.results.front import shipped
from train.results.measured import EXTRACTORS, Measured, by_both, load, spread
from train.results.quality import Commands, how, quality_table
from train.results.shipped import sections
from train.settings.cli import ROOT

PAGE = ROOT / "docs" / "results.md"
TOP = """# Results

What this page is for: every number that was measured, beside the paper's, with the command that
gave it. First the paper's tables, then all that was measured of each shipped model.

Made by `python -m train.report page=true` from the files in `docs/results` and in the shipped model
folders; no number is typed in but the paper's. `train/results/rows.py` says which command writes
which row, and the commands stand below each table, each with its provenance: commit, day, machine,
version of torch, seed. Files from before provenance was recorded stay as they are and say so.
"Not run" has no file yet.

The paper's models sample ImageNet at 256 px and are measured by Inception at 50,000 samples (FID,
Fréchet Inception distance); ours sample Fashion-MNIST at 28 px (emoji at 48 px: at the end). FD is
the Fréchet distance to the 10,000 test images in the features of a small classifier; it compares
within a column alone, so what compares with the paper is the ratio to the teacher. DD2 is Distilled
Decoding 2, AR autoregressive; DD1, Distilled Decoding 1, is our own baseline of it; GTS
(ground-truth score)
is the initialisation, CSD (conditional score distillation) the loss of the generator, NLL a
negative log-likelihood. The paper's column in Table 1 is FID / precision / recall, in the others
FID.

**A / B** is A by `classifier.safetensors`, by which settings were chosen, and B by
`judge.safetensors`, another architecture and seed, by which nothing was. *Above the floor*
subtracts from both FDs that of the tokenizer's reconstructions of the test images. Precision and
recall are those of the features, k = 3. *Runs* are training seeds; where there are several, the
mean is shown and the range in brackets, and only a difference beyond the ranges is one. Of one run
each there is no measured spread: do not call one of two rows better that differ by a few tenths
of FD. *Minutes* are of training, DD1's pairs counted, on two CPU cores shared
with other work; where the machine was noted it stands beside the command, and minutes of different
machines do not compare. Fewer than 10,000 samples are an estimate.
"""

MISSING = """## What is missing

- Every row that says "not run".
- Official sizes: nothing of theirs was trained or measured with this code.
- FD with a second seed of training for rows whose *runs* are 1: they have no spread.
- Provenance of the files that say they are from before it was recorded."""


def all_rows(preset: str, shape: tuple[list[int], int]) -> dict[str, tuple[rows.Row, ...]]:
    """The tables of quality by their heading, for one preset; `shape` are the steps from which the
    teacher samples anew, and how many it has."""
    tables = {
        "Table 1: quality": rows.TABLE_1,
        "Table 2: one step, then the teacher samples the end anew": rows.refined(*shape, preset),
        "Table 4: where guidance network ψ and generator G start (300 iterations of CSD)":
            rows.TABLE_4,
        "Table 7: AR diffusion after GTS, ten Euler steps a token": rows.TABLE_7,
        "Table 9: alignment": rows.TABLE_9,
    }
    return {head: tuple(r for r in table if r.only in (None, preset))
            for head, table in tables.items()}


def path_table(measured: Measured) -> str:
    """Table 5."""
    commands, lines = Commands(), []
    for row in rows.TABLE_5:
        found = [m for m in measured.rows.get(row.key, []) if m.path_length]
        parts = [m.path_length for m in found if m.path_length]
        shown = [by_both(dict(zip(EXTRACTORS, (
            spread([getattr(p, name) for p in parts], ",.0f"),
            spread([getattr(p, f"judge_{name}") for p in parts], ",.0f")), strict=True)))
            for name in ("filtered", "all")]
        shown += [spread([p.changed for p in parts], ".2f"),
                  ", ".join(dict.fromkeys(f"{p.n:,}" for p in parts)), str(len(parts))]
        lines.append([row.title, row.paper[measured.preset],
                      *(shown if parts else ["not run", *[ABSENT] * 4]),
                      commands.number(*how(measured, row, found))])
    heads = ("", "paper", "path length", "without the filter", "pairs that differ", "N", "runs",
             "command")
    return markdown_table(heads, lines) + "\n\n" + commands.block()


def neighbour_table(measured: Measured) -> str:
    """Nearest training images."""
    commands, lines = Commands(), []
    for row in rows.NEIGHBOURS:
        found = [m for m in measured.rows.get(row.key, []) if m.neighbours]
        parts = [m.neighbours for m in found if m.neighbours]
        shown = [spread([p.share for p in parts], ".3f"), _first(parts, "quantile", "g"),
                 spread([p.median for p in parts], ".3f"), _first(parts, "held_median", ".3f"),
                 _first(parts, "n", ","), _first(parts, "train", ",")]
        lines.append([row.title, *(shown if parts else ["not run", *[ABSENT] * 5]),
                      commands.number(*how(measured, row, found))])
    heads = ("", "share nearer", "than the quantile", "median distance", "of held-out images", "N",
             "training images", "command")
    return markdown_table(heads, lines) + "\n\n" + commands.block()


def _first(parts: list, name: str, form: str) -> str:
    return cell(getattr(parts[0], name), form) if parts else ABSENT


def conclusion(families: list[Measured]) -> str:
    """How far one step is from its teacher, by both extractors, and how much of DD1's gap DD2
    closes."""
    lines = []
    for m in families:
        for name in EXTRACTORS:
            one, teacher, floor, dd1 = (m.fd(key, name)
                                        for key in ("one_step", "teacher", "tokenizer", "dd1"))
            ratio = above = closed = None
            if one is not None and teacher is not None:
                ratio = one / teacher
                above = None if floor is None else (one - floor) / (teacher - floor)
                closed = None if dd1 is None else (dd1 - one) / (dd1 - teacher)
            lines.append([m.preset, name, cell(floor, ".3f"), cell(teacher, ".3f"),
                          cell(one, ".3f"), cell(ratio, ".2f"), cell(above, ".2f"),
                          _recall(m, name), cell(closed, ".0%")])
    return markdown_table(("", "extractor", "floor: tokenizer", "teacher", "one step", "ratio",
                           "ratio above the floor", "recall ÷ teacher's", "DD1's gap closed"),
                          lines)


def _recall(measured: Measured, extractor: str) -> str:
    values = []
    for key in ("one_step", "teacher"):
        found = measured.rows.get(key, [])
        each = [m if extractor == CLASSIFIER else m.judge for m in found]
        known = [x.recall for x in each if x is not None and x.recall is not None]
        values.append(sum(known) / len(known) if known and len(known) == len(found) else None)
    one, teacher = values
    return ABSENT if one is None or not teacher else f"{one / teacher:.2f}"


def other_table(measured: Measured) -> str:
    """Files that no row of the page is made of."""
    lines = [[m.tag, m.sampler, m.split, by_both({
        CLASSIFIER: cell(m.fd, ".2f"), EXTRACTORS[1]: cell(m.judge and m.judge.fd, ".3f")}),
        cell(m.n, ","), f"`{m.command}`"] for m in measured.other]
    return markdown_table(("tag", "sampler", "compared with", "FD", "N", "command"), lines)


def page(own: Path, assets: Path) -> str:
    """The whole page.

    Args:
        own (Path): the folder docs/results.
        assets (Path): the folder of the shipped models.
    """
    families, tables = [], {}
    for preset in rows.PRESETS:
        shape = cost.shape(assets / preset)
        tables[preset] = all_rows(preset, shape)
        keys = {row.key for table in tables[preset].values() for row in table}
        keys |= {row.key for row in (*rows.TABLE_5, *rows.NEIGHBOURS)}
        families.append(load(preset, keys, own, assets))
    parts = [TOP, "## In short", conclusion(families)]
    for head in tables[next(iter(rows.PRESETS))]:
        parts.append(f"## {head}")
        for m in families:
            parts += [f"**{m.preset}**", quality_table(m, tables[m.preset][head])]
        if head.startswith("Table 2"):
            parts += ["## Table 3: cost", cost.TEXT]
            for m in families:
                parts += [f"**{m.preset}**", cost.table(m, assets / m.preset)]
        if head.startswith("Table 4"):
            parts += ["## Table 5: perceptual path length", PATH_TEXT]
            for m in families:
                parts += [f"**{m.preset}**", path_table(m)]
    parts += ["## A joint distribution that is known", toy.TEXT, toy.table(own / "toy.json"),
              "## Nearest training images", NEIGHBOUR_TEXT]
    for m in families:
        parts += [f"**{m.preset}**", neighbour_table(m)]
    for m in families:
        if m.other:
            parts += [f"## Other measurements of {m.preset}", other_table(m)]
    parts += [*sections(assets, sorted({*shipped(assets), *rows.PRESETS})), MISSING]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


PATH_TEXT = """StyleGAN's definition: d²/ε² with ε = 0.01 on the spherical way between two latents,
label held, mean of what lies between the first and the last percentile. d is the distance in the
features of our extractors, so the paper's numbers, whose network is not named, are of another
scale; what compares is DD2 against DD1."""

NEIGHBOUR_TEXT = """Do samples repeat training images? Of each the nearest training image in the
classifier's features, beside how near real held-out images come: the share of samples nearer than a
small quantile of those distances, which would be the quantile itself were samples as real images
are. Each JSON has its picture, `TAG-neighbours.png`, beside it: sample, then its three nearest."""
