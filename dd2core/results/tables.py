"""The measured tables: the README, the model card and the page's Results show the same.

Each function takes what was measured of a model (`load_results`) and returns a Markdown table,
empty if nothing in it was measured. No number is typed in.
"""

from dd2core.results.collection import Results
from dd2core.results.markdown import ABSENT, cell, markdown_table
from dd2core.results.schema import Measurement


def quality_table(results: Results) -> str:
    """The samplers side by side, the teacher under the model's own settings, in the order of
    `METHODS`.

    Results by Inception have an Inception Score and no accuracy: a table of those alone is headed
    FID, and either column is left out where no row has it.
    """
    measured = [m for m in results.of("quality", "guidance")
                if m.table == "quality" or results.is_presets_teacher(m)]
    inception = [m.inception_score is not None for m in measured]
    columns = [
        ("sampler", "title", ""), ("passes", "passes", ""),
        ("FID ↓" if all(inception) else "FD ↓", "fd", ".2f"),
        ("IS ↑", "inception_score", ".1f"), ("% of variance", "fd_percent", ".2f"),
        ("accuracy ↑", "accuracy", ".3f"), ("precision ↑", "precision", ".3f"),
        ("recall ↑", "recall", ".3f"), ("teacher's NLL", "teacher_nll", ".2f"),
        ("entropy", "token_entropy", ".2f"), ("training min", "training_minutes", ".0f"),
        ("N", "n", ","),
    ]
    if all(inception) or not any(inception):
        left_out = "accuracy" if any(inception) else "inception_score"
        columns = [c for c in columns if c[1] != left_out]
    rows = [[cell(getattr(m, key), form) for _, key, form in columns] for m in measured]
    return markdown_table([head for head, _, _ in columns], rows)


def guidance_table(results: Results) -> str:
    """The teacher's FD by guidance scale."""
    measured = sorted(results.of("guidance"), key=lambda m: m.teacher_settings.cfg or 0.0)
    return markdown_table(
        ("guidance", "FD", "accuracy", "recall", "N"),
        [[cell(m.teacher_settings.cfg, "g"), *_short(m)] for m in measured])


def _short(m: Measurement) -> list[str]:
    """FD, accuracy, recall and N."""
    return [cell(m.fd, ".2f"), cell(m.accuracy, ".3f"), cell(m.recall, ".3f"), cell(m.n, ",")]


def refine_table(results: Results) -> str:
    """Few-step sampling between one step and the teacher: quality, and the time of one image where
    `train.benchmark starts=[…]` took it."""
    if not results.of("refine"):
        return ""
    ms = results.speed.of_one_image() if results.speed else {}
    timed = any(name.startswith("refine_") for name in ms)
    heads = ["sampler", "passes", "FD", "accuracy", "recall", "N"]
    heads += ["one image", "faster, with decoding"] if timed else []
    rows = [[title, cell(m.passes), *_short(m), *(_times(ms, name) if timed else [])]
            for title, name, m in few_steps(results)]
    return markdown_table(heads, rows)


def few_steps(results: Results) -> list[tuple[str, str, Measurement]]:
    """One step alone, few steps, the teacher alone, by passes: title, name in the benchmark,
    measurement."""
    one = [m for m in results.of("quality") if m.method == "one_step"]
    teacher = [m for m in results.measurements if results.is_presets_teacher(m)]
    rows = [*(("one step alone", "one_step", m) for m in one[-1:]),
            *((f"teacher from step {m.start} on", f"refine_{m.start}", m)
              for m in results.of("refine")),
            *(("teacher alone", "teacher", m) for m in teacher[-1:])]
    return sorted(rows, key=lambda row: row[2].passes)


def _times(ms: dict[str, float], name: str) -> list[str]:
    """A sampler's milliseconds, and how many times the teacher's speed that is."""
    if name not in ms:
        return [ABSENT, ABSENT]
    ratio = (ms["teacher"] + ms["decode"]) / (ms[name] + ms["decode"])
    return [f"{ms[name]:.1f} ms", f"{ratio:.1f}×"]


def tried_table(results: Results) -> str:
    """The estimates on the way."""
    heads = ("generator", "FD", "accuracy", "recall", "teacher's NLL", "entropy", "N")
    return markdown_table(heads, [
        [m.note, *_short(m)[:-1], cell(m.teacher_nll, ".2f"), cell(m.token_entropy, ".2f"),
         cell(m.n, ",")] for m in results.of("tried")])


def speed_table(results: Results) -> str:
    """The benchmark, and on what it was taken."""
    speed = results.speed
    if speed is None:
        return ""
    heads = ("batch", "teacher", "plain KV cache", "one step", "decoding",
             "faster, with decoding", "without")
    rows = []
    for row in speed.rows:
        ms = {name: f"{value:.1f} ms" + (f" ({row.threads[name]})" if name in row.threads else "")
              for name, value in row.ms.items()}
        rows.append([cell(row.batch), ms["teacher"], ms.get("yardstick", ABSENT), ms["one_step"],
                     ms["decode"], f"{row.ratio_with_decoding:.1f}×", f"{row.ratio:.1f}×"])
    flops = {k: f"{v / 1e6:.0f} MFLOP" for k, v in speed.flops_per_image.items()}
    return "\n".join([
        markdown_table(heads, rows), "",
        f"{speed.device}, torch {speed.torch}, {speed.dtype}; medians of {speed.repeats} rounds in "
        f"turns, each sampler on the count of threads in brackets, its fastest. Per image: teacher "
        f"{flops['teacher']} in {speed.passes['teacher']} passes, one step {flops['one_step']} in "
        f"one, decoding {flops['decode']}. \"Plain KV cache\" is a yardstick in `train/measure/`."])


def commands(results: Results, *tables: str) -> str:
    """The commands that made the numbers of some tables, as a code block; "speed" is the
    benchmark's."""
    lines = [m.command for m in results.of(*tables)]
    if results.speed is not None and "speed" in tables:
        lines.append(results.speed.command)
    return "\n".join(["```", *dict.fromkeys(lines), "```"])
