"""What a measurement is called, and which table it goes to."""

from dd2core.sampling import Sampling
from train.settings.schema import Evaluate


def names_of(o: Evaluate, sampling: Sampling) -> dict[str, str]:
    """The fields `method`, `note`, `table` and `tag` of a `Measurement`.

    As set; else the sampler's, the teacher at a guidance of its own for the guidance table, and
    weights that are not the model's for the estimates on the way: one has to say `method=dd1` to
    see them among the samplers. `dd1_two_steps` never has the model's, and is a method of its own:
    `dd1` is one step.

    Args:
        o (Evaluate): the settings.
        sampling (Sampling): the teacher's, resolved.
    """
    two = o.sampler == "dd1_two_steps"
    method = o.sampler if two and o.method == "dd1" else o.method or o.sampler
    tag = o.tag or o.sampler
    if o.sampler == "refine":
        table, note = "refine", f"from step {o.start}"
    elif o.sampler == "teacher" and o.cfg is not None:
        table, note = "guidance", f"guidance {sampling.cfg:g}"
    else:
        table = "tried" if o.weights and not (o.method or two) else "quality"
        note = "" if tag == method else tag
    return {"method": method, "note": note if o.note is None else o.note,
            "table": o.table or table, "tag": tag}
