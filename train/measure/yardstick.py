"""The plain sampler that a teacher must not be slower than, by family.

Each is the shortest honest program for its family: guided sampling with a plain KV cache, written
without any of the teacher's tricks. The benchmark times it beside the teacher, so that no ratio
comes from a slow teacher.
"""

from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.var.teacher import VARTeacher
from dd2core.teacher import Teacher
from train.measure.yardstick_llamagen import Yardstick
from train.measure.yardstick_var import VARYardstick

KINDS = {LlamaGenTeacher: Yardstick, VARTeacher: VARYardstick}


def yardstick(teacher: Teacher) -> Yardstick | VARYardstick | None:
    """The plain sampler with this teacher's weights; None where its family has none."""
    kind = KINDS.get(type(teacher))
    return None if kind is None else kind(teacher)
