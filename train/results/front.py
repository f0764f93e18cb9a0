"""The two tables of README.md, made from files: the models, and what was measured of them."""

from math import prod
from pathlib import Path

from dd2core.results.collection import load_results
from dd2core.results.markdown import ABSENT, cell, markdown_table
from dd2core.results.schema import Measurement
from dd2core.results.training import stage_machines, stage_minutes
from dd2core.store.files import read_json, tensor_shapes
from dd2core.store.names import CONFIG, LOGS, RESULTS, weights
from train.results.cost import TITLES
from train.results.measured import EXTRACTORS, Measured, by_both, fd_of, load, spread

ROWS = (  # key of the row (`train.results.rows`), title
    ("teacher", "teacher"),
    ("one_step", "**DD2**, our recipe"),
    ("one_step-paper", "**DD2**, the paper's recipe"),
    ("dd1", "DD1 (our baseline)"),
    ("parallel", "no distillation: all tokens at once"),
    ("tokenizer", "floor: the tokenizer's reconstructions"),
)
KEYS = {key for key, _ in ROWS}
FORMS = dict(zip(EXTRACTORS, (".2f", ".2f"), strict=True))


def shipped(assets: Path) -> list[str]:
    """The names of the whole models in a folder: those with a config.json and a generator."""
    return sorted(path.parent.name for path in assets.glob(f"*/{CONFIG}")
                  if (path.parent / weights("generator")).is_file())


def parameters(path: Path) -> int:
    """Numbers in a file of weights.

    Raises:
        DD2Error: it is no safetensors file.
    """
    return sum(prod(shape) for shape in tensor_shapes(path).values())


def _fd(measured: Measured, key: str) -> str:
    found = measured.rows.get(key, [])
    return by_both({name: spread([fd_of(m, name) for m in found], FORMS[name])
                    for name in EXTRACTORS})


def models(assets: Path, own: Path) -> str:
    """The shipped models: what each is, how good, how fast, and what training took."""
    lines = []
    for name in shipped(assets):
        config, measured = read_json(assets / name / CONFIG), load(name, KEYS, own, assets)
        speed = load_results(assets / name / RESULTS).speed
        one = next((row for row in speed.rows if row.batch == 1), None) if speed else None
        size = config["tokenizer"]["image_size"]
        lines.append([
            f"`{name}`", f"{size}×{size}" + ("" if config["tokenizer"]["in_channels"] == 1
                                             else ", colour"),
            " / ".join(f"{parameters(assets / name / weights(part)) / 1e6:.1f} M"
                       for part in ("teacher", "generator")),
            f"{_passes(config)} / 1", _fd(measured, "teacher"), _fd(measured, "one_step"),
            f"{one.ratio:.1f}× / {one.ratio_with_decoding:.1f}×" if one else ABSENT,
            _training(assets / name / LOGS)])
    return markdown_table(("model", "pixels", "parameters: teacher / generator",
                           "passes: teacher / one step", "FD of the teacher", "FD of one step",
                           "faster: tokens / with decoding", "training, minutes"), lines)


def _training(logs: Path) -> str:
    """Minutes of training and how many of them are distillation, by machine."""
    minutes, parts = stage_minutes(logs), []
    where = {k: name if name and name.startswith("NVIDIA") else "a CPU"
             for k, name in stage_machines(logs).items()}
    for machine in dict.fromkeys(where.values()):
        own = {k: m for k, m in minutes.items() if where[k] == machine}
        distilling = sum(m for k, m in own.items() if k in TITLES)
        parts.append(f"{sum(own.values()):.0f} on {machine}"
                     + (f", of it {distilling:.0f} distilling" if distilling else ""))
    return "; ".join(parts) or ABSENT


def _passes(config: dict) -> int:
    scales = config["transformer"].get("patch_nums")
    return len(scales) if scales else config["transformer"]["grid"] ** 2


def results(assets: Path, own: Path) -> str:
    """A row each for teacher, DD2 by both recipes, DD1, no distillation and floor; a column for
    each shipped model. A cell has FD, the ratio to the teacher's (and of both above the floor),
    accuracy and recall; several training seeds are mean and range."""
    names = shipped(assets)
    measured = [load(name, KEYS, own, assets) for name in names]
    lines = [[title, *(_cell(m, key) for m in measured)] for key, title in ROWS]
    return markdown_table(("", *(f"`{name}`" for name in names)), lines)


def _cell(measured: Measured, key: str) -> str:
    found = measured.rows.get(key, [])
    if not found:
        return "not run"
    parts = [f"FD {_fd(measured, key)}"]
    if key not in ("teacher", "tokenizer"):
        parts.append(f"÷ teacher {_ratios(measured, found, floor=False)}; above the floor "
                     f"{_ratios(measured, found, floor=True)}")
    parts.append(f"accuracy {spread([m.accuracy for m in found], '.3f')}, recall "
                 f"{spread([m.recall for m in found], '.3f')}")
    seeds = f"; {len(found)} training seeds" if len(found) > 1 else ""
    parts.append(f"N = {', '.join(dict.fromkeys(cell(m.n, ',') for m in found))}{seeds}")
    return "<br>".join(parts)


def _ratios(measured: Measured, found: list[Measurement], floor: bool) -> str:
    """FD over the teacher's by both extractors; with `floor`, both less the floor's."""
    def ratio(name: str) -> str:
        least = measured.fd("tokenizer", name) if floor else 0.0
        teacher, fds = measured.fd("teacher", name), [fd_of(m, name) for m in found]
        if teacher is None or least is None or None in fds or teacher <= least:
            return ABSENT
        return spread([(fd - least) / (teacher - least) for fd in fds if fd is not None], ".2f")

    return by_both({name: ratio(name) for name in EXTRACTORS})
