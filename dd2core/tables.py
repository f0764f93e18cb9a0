"""The measured tables, made from files: the README and the page's Results show the same.

Each function reads a model folder's `results/*.json` (written by `train.evaluate` and
`train.benchmark`) or `logs/*.jsonl` and returns a Markdown table. No number is typed in.
"""

import json
from pathlib import Path

from dd2core.checkpoint import read_json

NAMES = {
    "teacher": "AR teacher", "one_step": "**DD2, one step**", "dd2_short": "DD2 early",
    "dd1": "DD1, one step", "parallel": "parallel sampling, no distillation",
    "tokenizer": "floor: tokenizer's reconstructions", "train_set": "floor: training images",
}
STAGES = ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "tune")  # of training


def title(stem: str) -> str:
    """What a result is called in a table, by the name of its file without suffix."""
    name = NAMES.get(stem) or NAMES.get(stem.split("-")[0], stem.split("-")[0])
    note = stem.partition("-")[2].replace("cfg", "guidance ").replace("lr", "rate ")
    return name + (f" ({note})" if note else "")


def quality_table(results: Path) -> str:
    """Markdown table of the evaluations in a folder, in the order of `NAMES`."""
    head = ("| sampler | passes | FD ↓ | % of variance | accuracy ↑ | precision ↑ | recall ↑ | "
            "teacher's NLL | entropy | training min | N |")
    rows = [head, "|" + " --- |" * 11]
    best = read_json(results.parent / "config.json")["sampling"]["cfg"]  # the preset's default
    for path in sorted(results.glob("*.json"), key=order):
        r = read_json(path)
        other = path.stem.startswith("teacher-cfg") and r["teacher_settings"]["cfg"] != best
        if "fd" not in r or other or path.stem.startswith(("try-", "refine-")):
            continue
        minutes = r.get("training_minutes")
        rows.append(
            f"| {title(path.stem)} | {r['passes']} | {r['fd']:.2f} | {r['fd_percent']:.2f} | "
            f"{r['accuracy']:.3f} | {r['precision']:.3f} | {r['recall']:.3f} | "
            f"{r['teacher_nll']:.2f} | {r['token_entropy']:.2f} | "
            f"{'–' if minutes is None else f'{minutes:.0f}'} | {r['n']:,} |"
        )
    return "\n".join(rows)


def order(path: Path) -> tuple[int, str]:
    """Sorts result files as the table does, whatever their suffix."""
    stem = path.stem.split("-")[0]
    return (list(NAMES).index(stem) if stem in NAMES else len(NAMES), path.stem)


def guidance_table(results: Path) -> str:
    """Markdown table of the teacher's FD by guidance scale."""
    found = [read_json(p) for p in results.glob("teacher-cfg*.json")]
    rows = ["| guidance | FD | accuracy | recall | N |", "|" + " --- |" * 5]
    for r in sorted(found, key=lambda r: r["teacher_settings"]["cfg"]):
        rows.append(f"| {r['teacher_settings']['cfg']:g} | {r['fd']:.2f} | {r['accuracy']:.3f} | "
                    f"{r['recall']:.3f} | {r['n']:,} |")
    return "\n".join(rows) if found else ""


def refine_table(results: Path) -> str:
    """Markdown table of few-step sampling: one step, then the teacher from a step on."""
    found = [read_json(p) for p in results.glob("refine-*.json")]
    rows = ["| teacher from step | passes | FD | accuracy | recall | N |", "|" + " --- |" * 6]
    for r in sorted(found, key=lambda r: r["passes"]):
        rows.append(f"| {r['start']} | {r['passes']} | {r['fd']:.2f} | {r['accuracy']:.3f} | "
                    f"{r['recall']:.3f} | {r['n']:,} |")
    return "\n".join(rows) if found else ""


def tried_table(results: Path) -> str:
    """Markdown table of the estimates whose tag starts with `try-`."""
    files = sorted(results.glob("try-*.json"))
    found = [(p.stem.removeprefix("try-"), read_json(p)) for p in files]
    rows = ["| generator | FD | accuracy | recall | teacher's NLL | entropy | N |",
            "|" + " --- |" * 7]
    for name, r in found:
        rows.append(f"| {name} | {r['fd']:.2f} | {r['accuracy']:.3f} | {r['recall']:.3f} | "
                    f"{r['teacher_nll']:.2f} | {r['token_entropy']:.2f} | {r['n']:,} |")
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


def commands(results: Path) -> str:
    """The commands that made the numbers, as a code block."""
    files = sorted(results.glob("*.json"), key=order)
    found = [read_json(p) for p in files if not p.stem.startswith("try-")]
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
