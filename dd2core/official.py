"""Official checkpoints as teachers (method §10); files and hub ids: `python -m train.convert`.

    load_llamagen(gpt_state, vq_state, num_heads=…, grid=16) → LlamaGenTeacher
    load_var(var_state, vae_state, num_heads=…, patch_nums=…) → VARTeacher
"""

from dd2core.families import recognise
from dd2core.families.checkpoints import read_state, unwrap
from dd2core.families.llamagen.official import load_llamagen
from dd2core.families.var.official import load_var

__all__ = ["load_llamagen", "load_var", "read_state", "recognise", "unwrap"]
