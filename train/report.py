"""The results tables of the README, made from files: `python -m train.report preset=NAME`.

Reads `assets/NAME/results/*.json`, which `train.evaluate` and `train.benchmark` wrote, and rewrites
the part of README.md between the two marker lines. No number is typed in. Also writes the picture
`assets/NAME/comparison.png`.
"""

import io
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dd2core.checkpoint import read_json, write_atomic, write_manifest
from dd2core.errors import DD2Error
from train.config import ROOT, Config, main

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NAMES = {
    "teacher": "AR teacher", "one_step": "**DD2, one step**", "dd2_short": "DD2, same minutes",
    "dd1": "DD1, one step", "parallel": "parallel sampling, no distillation",
    "tokenizer": "floor: tokenizer's reconstructions", "train_set": "floor: training images",
}


def quality_table(results: Path) -> str:
    """Markdown table of all evaluations in a folder, in the order of `NAMES`, refinements last."""
    head = ("| sampler | passes | FD ↓ | % of variance | accuracy ↑ | precision ↑ | recall ↑ | "
            "teacher's NLL | entropy | training min | N |")
    rows = [head, "|" + " --- |" * 11]
    for path in sorted(results.glob("*.json"), key=_order):
        r = read_json(path)
        if "fd" not in r or path.stem.startswith("teacher-cfg"):
            continue
        name = NAMES.get(path.stem) or NAMES.get(path.stem.split("-")[0], path.stem)
        name += "".join(f" ({part})" for part in path.stem.split("-")[1:])
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


def speed_table(results: Path) -> str:
    """Markdown table of the benchmark."""
    path = results / "benchmark.json"
    if not path.exists():
        return ""
    report = read_json(path)
    rows = ["| batch | teacher | one step | decoding | faster, with decoding | without |",
            "|" + " --- |" * 6]
    for r in report["rows"]:
        rows.append(
            f"| {r['batch']} | {r['teacher_ms']:.1f} ms | {r['one_step_ms']:.1f} ms | "
            f"{r['decode_ms']:.1f} ms | {r['ratio_with_decode']:.1f}× | {r['ratio']:.1f}× |"
        )
    return "\n".join(rows)


def commands(results: Path) -> str:
    """The commands that made the numbers, as a code block."""
    found = [read_json(p) for p in sorted(results.glob("*.json"), key=_order)]
    return "\n".join(["```", *dict.fromkeys(r["command"] for r in found if "command" in r), "```"])


def training_table(logs: Path) -> str:
    """Markdown table of what each stage took, by its log."""
    rows = ["| stage | steps | images | minutes |", "|" + " --- |" * 4]
    total = 0.0
    for stage in ("tokenizer", "classifier", "teacher", "gts", "csd", "tune"):
        path = logs / f"{stage}.jsonl"
        if path.exists():
            last = json.loads(path.read_text().splitlines()[-1])
            total += last["seconds"] / 60
            rows.append(f"| {stage} | {last['step']:,} | {last['images']:,} | "
                        f"{last['seconds'] / 60:.0f} |")
    return "\n".join([*rows, f"| all | | | {total:.0f} |"])


def comparison(results: Path, out: Path) -> None:
    """One picture: the teacher's first samples left, the one-step generator's right."""
    left, right = (Image.open(results / f"{name}.png") for name in ("teacher", "one_step"))
    gap, head = 24, 26
    canvas = Image.new("RGB", (left.width + gap + right.width, left.height + head), "white")
    draw = ImageDraw.Draw(canvas)
    names = ("AR teacher: 49 passes", "DD2: one pass")
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
    if table := speed_table(results):
        parts += ["Speed:", table]
    return "\n\n".join(parts)


def run(cfg: Config) -> None:
    """Rewrite the results in README.md."""
    results, readme = ROOT / "assets" / cfg.name / "results", ROOT / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise DD2Error(f"README.md has no lines {BEGIN} and {END}: put them where results go.")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    comparison(results, results.parent / "comparison.png")
    write_manifest(results.parent)
    write_atomic(readme, f"{before}{BEGIN}\n{section(results)}\n{END}{after}".encode())
    print(f"report: README.md now shows {results}")


if __name__ == "__main__":
    main(run)
