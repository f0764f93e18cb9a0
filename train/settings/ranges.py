"""Which numbers a setting may be: one table, whatever section the setting stands in."""

import dataclasses
import math

from dd2core.errors import DD2Error
from dd2core.sampling import Sampling
from dd2core.store.names import safe_name
from train.settings.schema import Config, CSDStage

# Intervals: [ and ] belong to it, ( and ) do not. None, where a setting may be it, is not checked.
RANGES = {
    **dict.fromkeys(
        ("accumulate", "adversarial_depth", "batch", "batches", "channels", "check_every", "chunk",
         "code_dim", "crops",
         "depth", "disc_levels", "disc_width", "euler_steps", "features",
         "generator_depth", "groups",
         "guidance_steps", "heads", "hidden", "input_hidden", "input_layers",
         "image_size", "log_every", "mult", "n", "node_size", "num_codes", "pair_batch", "pairs",
         "per_file",
         "patch", "patch_nums", "processes", "repeats",
         "resize", "revive_every", "save_every", "second_start", "steps",
         "thread_counts", "threads", "times",
         "width", "fcs_times", "guidance_steps_after",
         "z_channels"), "[1, inf)"),
    **dict.fromkeys(
        ("adversarial", "adversarial_from", "align_at", "align_steps", "average", "commitment",
         "ema_first", "grid_every",
         "guidance_first", "head_steps", "l1", "l2", "latent_weight", "lr", "lr_final",
         "lr_discriminator", "lr_guidance", "lr_start", "pair_latent_weight", "pair_weight",
         "patience",
         "keep_snapshots", "neighbours", "perceptual", "ppl", "phi_convs", "tolerance", "r1",
         "res_blocks", "decoder_res_blocks", "start", "starts", "warmup", "warmup_guidance",
         "weight_decay", "workers"),
        "[0, inf)"),
    **dict.fromkeys(("clip", "ema_warmup", "mlp_ratio", "neighbours_mb", "omega_min",
                     "pair_sharpness", "peak_flops", "sharpness"), "(0, inf)"),
    **dict.fromkeys(("beta1", "beta2", "crop", "dropout", "ema",
                     "ema_first_decay", "start_share"), "[0, 1)"),
    **dict.fromkeys(("class_dropout", "pair_share", "second_share"), "[0, 1]"),
    "timeout": "[5, inf)", "restarts": "[0, inf)",
    "quantile": "(0, 1)", "t_init": "(0, 1]", "t_min": "(0, 1)", "t_max": "(0, 1]",
    "adversarial_t_max": "(0, 1]",
    "alpha": "(-inf, inf)", "cfg": "(-inf, inf)", "seed": "[0, 2147483648)",
}
MAY_BE_0 = ("adapt.steps", "warm.steps", "tune.steps")  # stages that may be left out
# Settings that a section shares with others and that nothing in it would read → what to do.
IDLE = {
    **dict.fromkeys(
        [f"{stage}.grid_every" for stage in (
            "tokenizer", "teacher", "adapt_fit", "adapt", "gts", "dd1", "warm", "classifier")],
        "only csd and tune paint sample grids"),
    **dict.fromkeys(
        [f"adapt_fit.{name}" for name in ("accumulate", "checkpoint_blocks", "ema", "bf16")],
        "the MLP is fitted to all codes at once, in float32, and kept as it is"),
    **{f"{stage}.pair_{name}": f"pairs are regressed as in the stage warm, so set warm.{name}"
       for stage in ("csd", "tune") for name in ("sharpness", "latent_weight")},
}


def check_ranges(cfg: Config) -> None:
    """Refuse settings that cannot be.

    Raises:
        DD2Error: names the first one, and what it may be.
    """
    for key, value in numbers(cfg):
        name = key.rpartition(".")[2]
        interval = "[0, inf)" if key in MAY_BE_0 else RANGES[name]
        values = value if isinstance(value, list) else [value]
        if not all(inside(v, interval) for v in values):
            raise DD2Error(f"{key}={value} must be {_said(interval)}.")
    for key in ("tokenizer", "classifier"):
        if getattr(cfg, key).accumulate > 1 or getattr(cfg, key).checkpoint_blocks:
            raise DD2Error(f"{key} is trained in one pass: leave out {key}.accumulate and "
                           f"{key}.checkpoint_blocks.")
    _check_idle(cfg)
    e = cfg.evaluate
    cfg.sampling.override(cfg=e.cfg, temperature=e.temperature, top_k=e.top_k, top_p=e.top_p)
    for key in ("gts", "csd", "tune"):
        o = getattr(cfg, key)
        if o.t_min >= o.t_max:
            raise DD2Error(f"{key}.t_min={o.t_min} must be less than {key}.t_max={o.t_max}.")
        if isinstance(o, CSDStage):
            _check_average(key, o)
            if o.start_share and o.generator_from_teacher:
                raise DD2Error(f"{key}.start_share needs a generator that was trained before: "
                               f"leave out {key}.generator_from_teacher.")
            if o.adversarial > 0 and o.t_min >= o.adversarial_t_max:
                raise DD2Error(f"{key}.t_min={o.t_min} must be less than {key}.adversarial_t_max="
                               f"{o.adversarial_t_max}.")
    for key, name in (("name", cfg.name), ("dd1.name", cfg.dd1.name), ("warm.name", cfg.warm.name),
                      ("evaluate.tag", cfg.evaluate.tag)):
        if name is not None:
            safe_name(name, key)
    if cfg.resume not in ("same", "anyway"):
        raise DD2Error(f"resume={cfg.resume} is unknown: use same or anyway.")


def numbers(section, before: str = "") -> list[tuple[str, float | list]]:
    """All settings that are numbers or lists of them, by dotted name."""
    found = []
    for f in dataclasses.fields(section):
        value, key = getattr(section, f.name), before + f.name
        if dataclasses.is_dataclass(value) and not isinstance(value, Sampling):  # checks itself
            found += numbers(value, f"{key}.")
        elif isinstance(value, int | float | list) and not isinstance(value, bool):
            found.append((key, value))
    # Those of evaluate are a sampling in parts; `check_ranges` makes one of them.
    found = [(k, v) for k, v in found
             if k.rpartition(".")[2] not in ("temperature", "top_k", "top_p")]
    return found


def inside(value: float, interval: str) -> bool:
    """Whether a finite number lies in an interval such as `[0, 1)`."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return math.isfinite(value) and above and below


def _said(interval: str) -> str:
    low, high = interval[1:-1].split(", ")
    if high != "inf":
        return f"a number in {interval}"
    if low == "-inf":
        return "a finite number"
    return f"a finite number {'of at least' if interval[0] == '[' else 'greater than'} {low}"


def _check_idle(cfg: Config) -> None:
    usual = Config()
    for key, why in IDLE.items():
        section, _, name = key.partition(".")
        value = getattr(getattr(cfg, section), name)
        if value != getattr(getattr(usual, section), name):
            raise DD2Error(f"{key}={value} would change nothing: leave it out, {why}.")


def _check_average(key: str, o: CSDStage) -> None:
    if o.average is None:
        return
    known = len(o.average) == 2 and 0 < o.average[0] <= o.average[1] <= o.steps
    if not known or not o.grid_every or (
            o.average[1] // o.grid_every == (o.average[0] - 1) // o.grid_every):
        raise DD2Error(f"{key}.average={o.average} must be the first and last step of snapshots, "
                       f"within {key}.steps={o.steps} and with a multiple of {key}.grid_every="
                       f"{o.grid_every} between them.")
