"""Official checkpoints as teachers (design §10); files and hub ids: `python -m train.convert`.

    load_llamagen(gpt_state, vq_state, num_heads=…, grid=16) → LlamaGenTeacher
    load_var(var_state, vae_state, num_heads=…, patch_nums=…) → VARTeacher
"""

from collections.abc import Mapping

from dd2core.errors import DD2Error
from dd2core.official_llamagen import load_llamagen
from dd2core.official_var import load_var
from dd2core.state_dicts import read_state, unwrap

__all__ = ["load_llamagen", "load_var", "read_state", "recognise", "unwrap"]

MARKS = {  # a key that only this kind of checkpoint has → family, part
    "tok_embeddings.weight": ("llamagen", "transformer"),
    "encoder.conv_blocks.0.res.0.conv1.weight": ("llamagen", "tokenizer"),
    "pos_1LC": ("var", "transformer"),
    "encoder.down.0.block.0.conv1.weight": ("var", "tokenizer"),
}


def recognise(state: Mapping, what: str = "The checkpoint") -> tuple[str, str]:
    """Family and part (`transformer` or `tokenizer`) of a checkpoint, bare or wrapped.

    Raises:
        DD2Error: it is of neither family; names `what`.
    """
    names = unwrap(state)
    for key, found in MARKS.items():
        if key in names:
            return found
    raise DD2Error(f"{what} is no LlamaGen or VAR checkpoint: it has none of {', '.join(MARKS)}.")
