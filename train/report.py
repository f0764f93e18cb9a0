"""The results tables of the README, made from files: `python -m train.report preset=NAME`.

Reads `assets/NAME/results/*.json`, which `train.evaluate` and `train.benchmark` wrote, and rewrites
the part of README.md between the preset's two marker lines. No number is typed in. Also writes the
picture `assets/NAME/comparison.png`.
"""

import io
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dd2core.checkpoint import read_json, write_atomic, write_manifest
from dd2core.errors import DD2Error
from train.config import ROOT, Config, main

MARKERS = "<!-- results of {0} begin -->", "<!-- results of {0} end -->"
NAMES = {
    "teacher": "AR teacher", "one_step": "**DD2, one step**", "dd2_short": "DD2 early",
    "dd1": "DD1, one step", "parallel": "parallel sampling, no distillation",
    "tokenizer": "floor: tokenizer's reconstructions", "train_set": "floor: training images",
}


def quality_table(results: Path) -> str:
    """Markdown table of the evaluations in a folder, in the order of `NAMES`."""
    head = ("| sampler | passes | FD ↓ | % of variance | accuracy ↑ | precision ↑ | recall ↑ | "
            "teacher's NLL | entropy | training min | N |")
    rows = [head, "|" + " --- |" * 11]
    best = read_json(results.parent / "config.json")["sampling"]["cfg"]  # the preset's default
    for path in sorted(results.glob("*.json"), key=_order):
        r = read_json(path)
        other = path.stem.startswith("teacher-cfg") and r["teacher_settings"]["cfg"] != best
        if "fd" not in r or other or path.stem.startswith(("try-", "refine-")):
            continue
        name = NAMES.get(path.stem) or NAMES.get(path.stem.split("-")[0], path.stem)
        note = path.stem.partition("-")[2].replace("cfg", "guidance ").replace("lr", "rate ")
        name += f" ({note})" if note else ""
        minutes = r.get("training_minutes")
        rows.append(
            f"| {name} | {r['passes']} | {r['fd']:.2f} | {r['fd_percent']:.2f} | "
            f"{r['accuracy']:.3f} | {r['precision']:.3f} | {r['recall']:.3f} | "
            f"{r['teacher_nll']:.2f} | {r['token_entropy']:.2f} | "
            f"{'–' if minutes is None else f'{minutes:.0f}'} | {r['n']:,} |"
        )
    return "\n".join(rows)


def _order(path: Path) -> tuple[int, str]:
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
        ms = {name: f"{value:.1f} ms ({r['threads'][name]})" for name, value in r["ms"].items()}
        rows.append(
            f"| {r['batch']} | {ms['teacher']} | {ms.get('yardstick', '–')} | {ms['one_step']} | "
            f"{ms['decode']} | {r['ratio_with_decoding']:.1f}× | {r['ratio']:.1f}× |"
        )
    flops = {k: f"{v / 1e6:.0f} MFLOP" for k, v in report["flops_per_image"].items()}
    rows += ["", f"{report['device']}, torch {report['torch']}, {report['dtype']}; medians of "
             f"{report['repeats']} rounds in turns, each sampler on the count of threads in "
             "brackets, its fastest. Per image: teacher {flops['teacher']} in "
             f"{report['passes']['teacher']} passes, one step {flops['one_step']} in one, decoding "
             f"{flops['decode']}. \"Plain KV cache\" is a yardstick kept in `tests/`."]
    return "\n".join(rows)


def commands(results: Path) -> str:
    """The commands that made the numbers, as a code block."""
    files = sorted(results.glob("*.json"), key=_order)
    found = [read_json(p) for p in files if not p.stem.startswith("try-")]
    return "\n".join(["```", *dict.fromkeys(r["command"] for r in found if "command" in r), "```"])


def training_table(logs: Path) -> str:
    """Markdown table of what each stage took, by its log."""
    rows = ["| stage | steps | images | minutes |", "|" + " --- |" * 4]
    total = 0.0
    for stage in ("tokenizer", "classifier", "teacher", "gts", "warm", "csd", "tune"):
        path = logs / f"{stage}.jsonl"
        if path.exists():
            last = json.loads(path.read_text().splitlines()[-1])
            result = logs / f"{stage}.json"
            pairs = read_json(result).get("pair_seconds", 0.0) if result.exists() else 0.0
            minutes = (last["seconds"] + pairs) / 60
            total += minutes
            rows.append(f"| {stage} | {last['step']:,} | {last['images']:,} | {minutes:.0f} |")
    return "\n".join([*rows, f"| all | | | {total:.0f} |"])


def comparison(results: Path, out: Path) -> None:
    """One picture: the teacher's first samples left, the one-step generator's right."""
    left, right = (Image.open(results / f"{name}.png") for name in ("teacher", "one_step"))
    gap, head = 24, 26
    canvas = Image.new("RGB", (left.width + gap + right.width, left.height + head), "white")
    draw = ImageDraw.Draw(canvas)
    passes = read_json(next(results.glob("teacher*.json")))["passes"]
    names = (f"AR teacher: {passes} passes", "DD2: one pass")
    for x, picture, name in zip((0, left.width + gap), (left, right), names, strict=True):
        canvas.paste(picture, (x, head))
        draw.text((x, 4), name, fill="black", font=ImageFont.load_default(16))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    write_atomic(out, buffer.getvalue())


def section(results: Path) -> str:
    """Everything between the marker lines."""
    parts = [quality_table(results), commands(results)]
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
