"""The model card of an exported folder: `README.md` as the Hugging Face hub reads it.

Every number in it comes from the folder's own config.json and results.
"""

import re
from pathlib import Path

import yaml

from dd2core import __version__
from dd2core.results.collection import Results, load_results
from dd2core.results.tables import quality_table
from dd2core.store.files import read_json, write_atomic
from dd2core.store.names import CONFIG
from train.publish.repository import repository
from train.settings.schema import Config

DATASETS = {"fashion-mnist": "zalando-datasets/fashion_mnist"}  # data= → hub id
IMAGENET = "ILSVRC/imagenet-1k"
LICENCES = {  # of the data, by hub id
    "zalando-datasets/fashion_mnist": "MIT licence, Zalando SE",
    IMAGENET: "ImageNet's terms of access: non-commercial research and education",
}
USE = """Research on sampling and distillation of image autoregressive models, teaching, and as a
base of further distillation. Not for pictures that anyone is to take for photographs, nor for
decisions about people."""
LIMITS = """It samples the classes it was trained on and nothing else, at one size, and repeats what
its training pictures have in common, their gaps and biases too. One step is faster than the teacher
and less faithful to the data: see the measurements, or make them with `python -m train.evaluate`.
Numbers by a classifier of this repository compare with no other paper's."""
PAPER = """```bibtex
@inproceedings{liu2025distilled,
  title     = {Distilled Decoding 2: One-step Sampling of Image Auto-regressive Models with
               Conditional Score Distillation},
  author    = {Liu, Enshu and Chen, Qian and Ning, Xuefei and Yan, Shengen and Dai, Guohao and
               Lin, Zinan and Wang, Yu},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025},
  note      = {arXiv:2510.21003}
}
```"""


def front_matter(cfg: Config, config: dict) -> dict:
    """What the hub sorts models by."""
    fields = {
        "license": cfg.export_license, "library_name": "dd2",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["distilled-decoding", "one-step", "autoregressive", "class-conditional",
                 "image-generation", config["family"]],
    }
    data = dataset(cfg, config)
    if data:
        fields["datasets"] = [data]
    if config.get("source", {}).get("repo"):
        fields["base_model"] = config["source"]["repo"]
    return fields


def dataset(cfg: Config, config: dict) -> str | None:
    """The hub id of what the teacher was trained on; None if it is not known."""
    own = DATASETS.get(cfg.data)
    return IMAGENET if own is None and config.get("source") else own  # of official weights


def _data(cfg: Config, config: dict) -> str:
    data = dataset(cfg, config)
    if data is None:
        return ("Trained on pictures of whoever exported it, under their licence; the weights' "
                f"licence above ({cfg.export_license}) is theirs to choose.")
    return (f"[{data}](https://huggingface.co/datasets/{data}): {LICENCES[data]}. The weights are "
            f"under {cfg.export_license}.")


def sizes(config: dict) -> str:
    """One line on the networks."""
    t, v = config["transformer"], config["tokenizer"]
    scales = t.get("patch_nums")
    tokens = sum(p * p for p in scales) if scales else t["grid"] ** 2
    return (f"{v['image_size']} px, {v['in_channels']} channel(s), {tokens} tokens of "
            f"{t['num_codes']} codes, {len(scales) if scales else tokens} steps of the teacher; "
            f"transformer of {t['depth']} blocks, width {t['width']}, {t['heads']} heads")


def usage(name: str, config: dict) -> str:
    """How to load it."""
    one_step = "generator" in config["parts"]
    labels = list(range(min(4, len(config["class_names"]))))
    call = f"pipe.sample_one_step({labels}, seed=0).images        # one pass" if one_step else \
        f"pipe.sample_teacher({labels}, seed=0).images"
    both = f"\npipe.sample_teacher({labels}, seed=0).images         # all steps" if one_step \
        else ""
    return (f"```python\nfrom dd2core import load_pipeline   # {repository()}\n\n"
            f"pipe = load_pipeline(\"{name}\")          # revision=COMMIT pins it\n{call}{both}\n"
            "```")


def card(cfg: Config, folder: Path) -> str:
    """The text of `README.md` for a folder that `train.export` has written."""
    config = read_json(folder / CONFIG)
    s, names = config["sampling"], config["class_names"]
    head = yaml.safe_dump(front_matter(cfg, config), sort_keys=False, allow_unicode=True)
    what = "An autoregressive image model (the teacher) and its one-step generator, distilled " \
        "from it with Conditional Score Distillation (Distilled Decoding 2)." \
        if "generator" in config["parts"] else "An autoregressive image model, not yet distilled."
    lines = [f"---\n{head}---", f"# {config['name']}", what, f"- {sizes(config)}",
             f"- family {config['family']}, {len(names)} classes: "
             f"{', '.join(names[:10])}{', …' if len(names) > 10 else ''}",
             f"- the teacher's settings: guidance {s['cfg']:g}, temperature {s['temperature']:g}, "
             f"top-k {s['top_k']}, top-p {s['top_p']:g}",
             f"- parts: {', '.join(config['parts'])}; sha256 of every file in `manifest.json`",
             f"- made with [dd2]({repository()}), version {__version__}",
             "## Use", usage(cfg.export_hub or "OWNER/NAME", config)]
    lines += _measured(load_results(folder / "results"))
    if origin := config.get("source"):
        lines += ["## Where the teacher comes from", _origin(origin)]
    lines += ["## Intended use", USE, "## Data", _data(cfg, config), "## Limits", LIMITS,
              "## Cite", f"The method is the paper's; the code is [dd2]({repository()}).", PAPER]
    text = "\n\n".join(lines)
    return re.sub(r"(\n- .*)\n(?=\n- )", r"\1", text) + "\n"  # a list is one block


def _measured(results: Results) -> list[str]:
    """The section on what was measured, with what the numbers mean; nothing if nothing was."""
    table = quality_table(results)
    if not table:
        return []
    lines = ["## Measured", table]
    if any(m.inception_score is None for m in results.measurements):
        lines += ["FD is the Fréchet distance of a small classifier's features "
                  "(`classifier.safetensors`); fewer than 10,000 samples are an estimate."]
    against = sorted({m.reference for m in results.measurements if m.inception_score is not None})
    if against:
        lines += ["FID, Inception Score, precision and recall are of Inception's features "
                  f"(torch-fidelity), against {'; '.join(against)}; fewer than 50,000 samples are "
                  "an estimate."]
    return lines


def _origin(origin: dict) -> str:
    files = ", ".join(f"`{name}` (sha256 {digest[:12]}…)"
                      for name, digest in origin["files"].items())
    at = f"{origin['repo']} at commit {origin['revision']}: " if "repo" in origin else ""
    return f"Converted from the official weights, {at}{files}."


def write_card(cfg: Config, folder: Path) -> None:
    """Write the card of a model folder."""
    write_atomic(folder / "README.md", card(cfg, folder).encode())
