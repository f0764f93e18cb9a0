"""All that was measured of one shipped model, as a section of docs/results.md."""

from pathlib import Path

from dd2core.results import tables
from dd2core.results.collection import Results, load_results
from dd2core.results.provenance import told
from dd2core.results.training import training_table
from dd2core.store.names import LOGS, RESULTS

TEXT = """"Teacher's NLL" (negative log-likelihood) is what the guided teacher thinks of the sampled
tokens, in nats per token; "entropy" is that of the marginal distribution of tokens. They tell
agreement and variety apart; both are taken on the first 2,000 samples. "% of variance" is FD over
the total variance of the reference's features. "Training min" counts the distillation (GTS, DD1's
pairs and warm start where there are any, CSD). DD1's sweep of three learning rates (`sweep-…`:
10,000 pairs, 700 steps, from an earlier GTS run of 600 steps) chose the rate of the longer DD1 run,
which has the pairs and the GTS network of DD2 and 1,700 steps."""


def section(results: Results) -> str:
    """Quality, commands, training, guidance, few steps, speed; what was not measured is left out.

    Args:
        results (Results): of the model's folder.
    """
    if not results.measurements and results.speed is None:
        return ""
    ran = "; ".join(dict.fromkeys(told(m.provenance) for m in results.measurements))
    parts = [
        ("", tables.quality_table(results)),
        ("", tables.commands(results, "quality", "guidance", "refine", "speed")),
        ("", f"Measured: {ran}." if ran else ""),
        ("What training took, beside other work on the same machine:",
         training_table(results.folder.parent / LOGS)),
        ("The teacher by guidance scale:", tables.guidance_table(results)),
        ("Between the two: one step, then the teacher from a step on (`sampler=refine`):",
         tables.refine_table(results)),
        ("Speed:", tables.speed_table(results)),
        ("", f"Speed was measured {told(results.speed.provenance)}." if results.speed else ""),
    ]
    return "\n\n".join(text for head, shown in parts if shown for text in (head, shown) if text)


def sections(assets: Path, presets: list[str]) -> list[str]:
    """A heading and a section for each shipped model of which anything was measured."""
    parts = []
    for preset in presets:
        text = section(load_results(assets / preset / RESULTS))
        if text:
            picture = assets / preset / "comparison.png"
            shown = [f"![Samples of teacher and generator of {preset}]"
                     f"(../assets/{preset}/comparison.png)"] if picture.is_file() else []
            parts += [f"## {preset}: everything measured", *shown, text]
    return parts and [parts[0], TEXT, *parts[1:]]
