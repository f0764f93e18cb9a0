"""A LlamaGen transformer that takes vectors where it had a table (method §3; paper App. B.1)."""

import torch
from torch import Tensor, nn

from dd2core.families.llamagen.settings import with_vector_input
from dd2core.families.llamagen.transformer import LlamaGenTransformer


def with_mlp_input(table: LlamaGenTransformer, hidden: int, layers: int) -> LlamaGenTransformer:
    """A copy whose token input is a fresh MLP on code vectors; all other weights are `table`'s.

    Args:
        table (LlamaGenTransformer): with a token table.
        hidden (int): width of the MLP's hidden layers.
        layers (int): how many there are.

    Raises:
        DD2Error: it has no token table.
    """
    sizes = with_vector_input(table.cfg, hidden, layers)
    model = LlamaGenTransformer(sizes, table.backbone.codebook)
    own = {k: a for k, a in model.state_dict().items() if k.startswith("backbone.code_input.")}
    kept = {k: a for k, a in table.state_dict().items() if k != "backbone.token_table.weight"}
    model.load_state_dict({**own, **kept})
    return model.to(table.output.weight.device)


def fit_error(code_input: nn.Module, codebook: Tensor, table: Tensor) -> Tensor:
    """Σ_i ‖mlp(c_i) − emb(i)‖² / V over all V codes: a scalar.

    Args:
        code_input (nn.Module): (V, C) → (V, D).
        codebook (Tensor): (V, C).
        table (Tensor): (V, D); no gradient reaches it.
    """
    with torch.autocast(codebook.device.type, enabled=False):
        return (code_input(codebook) - table.detach()).square().sum(-1).mean()
