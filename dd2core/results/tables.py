"""The measured tables, made from files: the README and the page's Results show the same.

Each function reads a model folder's `results/*.json` (written by `train.evaluate` and
`train.benchmark`) or `logs/*.jsonl` and returns a Markdown table. No number is typed in.
"""

import json
from pathlib import Path

from dd2core.store.files import read_json

NAMES = {
    "teacher": "AR teacher", "one_step": "**DD2, one step**", "dd2_short": "DD2 early",
    "refine": "one step, then the teacher", "dd1": "DD1, one step",
    "parallel": "parallel sampling, no distillation",
    "tokenizer": "floor: tokenizer's reconstructions", "train_set": "floor: training images",
}
STAGES = ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "tune")  # of training


def title(stem: str) -> str:
    """What a result is called in a table, by the name of its file without suffix."""
    name = NAMES.get(stem) or NAMES.get(stem.split("-")[0], stem.split("-")[0])
    note = stem.partition("-")[2].replace("cfg", "guidance ").replace("lr", "rate ")
    note = f"from step {note}" if stem.startswith("refine-") else note
    return name + (f" ({note})" if note else "")


def quality_table(results: Path) -> str:
    """Markdown table of the evaluations in a folder, in the order of `NAMES`.

    Results by Inception have an Inception Score and no accuracy: a table of those alone is headed
    FID, and either column is left out where no row has it.
    """
    best = read_json(results.parent / "config.json")["sampling"]["cfg"]  # the preset's default
    found = []
    for path in sorted(results.glob("*.json"), key=order):
        r = read_json(path)
        other = path.stem.startswith("teacher-cfg") and r["teacher_settings"]["cfg"] != best
        if "fd" not in r or other or path.stem.startswith(("try-", "refine-")):
            continue
        found.append({**r, "sampler": title(path.stem)})
    plain, inception = ([r for r in found if ("inception_score" in r) == i] for i in (False, True))
    columns = [
        ("sampler", "sampler", ""), ("passes", "passes", ""),
        ("FID ↓" if inception and not plain else "FD ↓", "fd", ".2f"),
        ("IS ↑", "inception_score", ".1f"), ("% of variance", "fd_percent", ".2f"),
        ("accuracy ↑", "accuracy", ".3f"), ("precision ↑", "precision", ".3f"),
        ("recall ↑", "recall", ".3f"), ("teacher's NLL", "teacher_nll", ".2f"),
        ("entropy", "token_entropy", ".2f"), ("training min", "training_minutes", ".0f"),
        ("N", "n", ","),
    ]
    left_out = [] if plain and inception else ["accuracy" if inception else "inception_score"]
    columns = [c for c in columns if c[1] not in left_out]
    rows = [_row(head for head, _, _ in columns), "|" + " --- |" * len(columns)]
    rows += [_row(_cell(r, key, form) for _, key, form in columns) for r in found]
    return "\n".join(rows)


ABSENT = ("training_minutes", "accuracy", "inception_score")  # a result may be without them


def _cell(r: dict, key: str, form: str) -> str:
    """A number of a result; a dash for one that was not measured."""
    value = r.get(key) if key in ABSENT else r[key]
    return "–" if value is None else format(value, form)


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def order(path: Path) -> tuple[int, int, str]:
    """Sorts result files as the table does, whatever their suffix; refine by passes."""
    stem, _, note = path.stem.partition("-")
    start = int(note) if stem == "refine" and note.isdigit() else 0
    return list(NAMES).index(stem) if stem in NAMES else len(NAMES), -start, path.stem


def guidance_table(results: Path) -> str:
    """Markdown table of the teacher's FD by guidance scale."""
    found = [read_json(p) for p in results.glob("teacher-cfg*.json")]
    rows = ["| guidance | FD | accuracy | recall | N |", "|" + " --- |" * 5]
    for r in sorted(found, key=lambda r: r["teacher_settings"]["cfg"]):
        rows.append(f"| {r['teacher_settings']['cfg']:g} | {r['fd']:.2f} | "
                    f"{_cell(r, 'accuracy', '.3f')} | {_cell(r, 'recall', '.3f')} | {r['n']:,} |")
    return "\n".join(rows) if found else ""


def refine_table(results: Path) -> str:
    """Markdown table of few-step sampling between one step and the teacher: quality, and the time
    of one image where `train.benchmark starts=[…]` took it."""
    found, few = {}, False
    for path in sorted(results.glob("*.json")):
        r = read_json(path)
        if path.stem == "one_step":
            found["one step alone"] = ("one_step", r)
        elif is_presets(results, r):
            found["teacher alone"] = ("teacher", r)
        elif path.stem.startswith("refine-"):
            found[f"teacher from step {r['start']} on"] = (f"refine_{r['start']}", r)
            few = True
    if not few:
        return ""
    single = _times_of_one(results)
    heads = ["sampler", "passes", "FD", "accuracy", "recall", "N"]
    heads += ["one image", "faster, with decoding"] if single else []
    rows = [_row(heads), "|" + " --- |" * len(heads)]
    for what, (name, r) in sorted(found.items(), key=lambda item: item[1][1]["passes"]):
        cells = [what, str(r["passes"]), f"{r['fd']:.2f}", _cell(r, "accuracy", ".3f"),
                 _cell(r, "recall", ".3f"), f"{r['n']:,}"]
        rows.append(_row(cells + (_speed(single, name) if single else [])))
    return "\n".join(rows)


def _speed(ms: dict[str, float], name: str) -> list[str]:
    """A sampler's milliseconds, and how many times the teacher's speed that is."""
    if name not in ms:
        return ["–", "–"]
    ratio = (ms["teacher"] + ms["decode"]) / (ms[name] + ms["decode"])
    return [f"{ms[name]:.1f} ms", f"{ratio:.1f}×"]


def is_presets(results: Path, r: dict) -> bool:
    """Whether a result is the teacher's at the preset's own guidance."""
    best = read_json(results.parent / "config.json")["sampling"]["cfg"]
    return r.get("sampler") == "teacher" and r["teacher_settings"]["cfg"] == best


def _times_of_one(results: Path) -> dict[str, float]:
    """Milliseconds of each sampler at batch 1, if refine was timed there; else nothing."""
    path = results / "benchmark.json"
    rows = read_json(path)["rows"] if path.exists() else []
    ms = next((r["ms"] for r in rows if r["batch"] == 1), {})
    return ms if any(name.startswith("refine_") for name in ms) else {}


def tried_table(results: Path) -> str:
    """Markdown table of the estimates whose tag starts with `try-`."""
    files = sorted(results.glob("try-*.json"))
    found = [(p.stem.removeprefix("try-"), read_json(p)) for p in files]
    rows = ["| generator | FD | accuracy | recall | teacher's NLL | entropy | N |",
            "|" + " --- |" * 7]
    for name, r in found:
        rows.append(f"| {name} | {r['fd']:.2f} | {_cell(r, 'accuracy', '.3f')} | "
                    f"{_cell(r, 'recall', '.3f')} | {r['teacher_nll']:.2f} | "
                    f"{r['token_entropy']:.2f} | {r['n']:,} |")
    return "\n".join(rows) if found else ""


def speed_table(results: Path) -> str:
    """Markdown table of the benchmark."""
    path = results / "benchmark.json"
    if not path.exists():
        return ""
    report = read_json(path)
    rows = ["| batch | teacher | plain KV cache | one step | decoding | faster, with decoding | "
            "without |", "|" + " --- |" * 7]
    for r in report["rows"]:
        threads = r.get("threads", {})
        ms = {name: f"{value:.1f} ms" + (f" ({threads[name]})" if name in threads else "")
              for name, value in r["ms"].items()}
        rows.append(
            f"| {r['batch']} | {ms['teacher']} | {ms.get('yardstick', '–')} | {ms['one_step']} | "
            f"{ms['decode']} | {r['ratio_with_decoding']:.1f}× | {r['ratio']:.1f}× |"
        )
    flops = {k: f"{v / 1e6:.0f} MFLOP" for k, v in report["flops_per_image"].items()}
    rows += ["", f"{report['device']}, torch {report['torch']}, {report['dtype']}; medians of "
             f"{report['repeats']} rounds in turns, each sampler on the count of threads in "
             f"brackets, its fastest. Per image: teacher {flops['teacher']} in "
             f"{report['passes']['teacher']} passes, one step {flops['one_step']} in one, decoding "
             f"{flops['decode']}. \"Plain KV cache\" is a yardstick kept in `tests/`."]
    return "\n".join(rows)


def kind(stem: str) -> str:
    """Which table a result belongs to, by the name of its file: quality, guidance, refine, speed
    or tried."""
    prefixes = {"benchmark": "speed", "refine": "refine", "try": "tried"}
    return "guidance" if stem.startswith("teacher-cfg") else prefixes.get(
        stem.partition("-")[0], "quality")


def commands(results: Path, *kinds: str) -> str:
    """The commands that made the numbers of some kinds, as a code block."""
    files = sorted(results.glob("*.json"), key=order)
    found = [read_json(p) for p in files if kind(p.stem) in kinds]
    return "\n".join(["```", *dict.fromkeys(r["command"] for r in found if "command" in r), "```"])


def training_table(logs: Path) -> str:
    """Markdown table of what each stage took, by its log."""
    rows = ["| stage | steps | images | minutes |", "|" + " --- |" * 4]
    total = 0.0
    for stage in STAGES:
        path = logs / f"{stage}.jsonl"
        if path.exists():
            last = json.loads(path.read_text().splitlines()[-1])
            result = logs / f"{stage}.json"
            pairs = read_json(result).get("pair_seconds", 0.0) if result.exists() else 0.0
            minutes = (last["seconds"] + pairs) / 60
            total += minutes
            rows.append(f"| {stage} | {last['step']:,} | {last['images']:,} | {minutes:.0f} |")
    return "\n".join([*rows, f"| all | | | {total:.0f} |"])
