"""The LlamaGen transformer: raster order over the tokens of a VQ tokenizer.

Told top to bottom: 2-D rotary positions, block, backbone, transformer. RMSNorm, SwiGLU, a class
token in front (method §7; sizes in `TransformerConfig`).

A step of the AR teacher handles one token, so most of its time is overhead: rotations are one
complex product, weights are looked up once per run (`Weights`), products run on flat matrices.
"""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.families.attention import attention
from dd2core.families.llamagen.settings import TransformerConfig
from dd2core.teacher import Backbone


def rotary_2d(grid: int, head_dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """cos and sin of the 2-D rotary positions, each (1 + grid², head_dim/2).

    The first half of a head turns with the row, the second with the column. The class token in
    front has cos = sin = 0: its query and key vanish. Made on the CPU even under
    `torch.device("meta")`, so that a model built there and filled with weights is whole.
    """
    quarter = torch.arange(0, head_dim // 2, 2, device="cpu").float() / (head_dim // 2)
    angle = torch.arange(grid, device="cpu")[:, None] / base**quarter  # (grid, head_dim/4)
    row = angle[:, None].expand(grid, grid, -1)
    col = angle[None].expand(grid, grid, -1)
    angle = torch.cat([row, col], -1).flatten(0, 1)  # (L, head_dim/2)
    return F.pad(angle.cos(), (0, 0, 1, 0)), F.pad(angle.sin(), (0, 0, 1, 0))


def rotate(x: Tensor, factors: Tensor) -> Tensor:
    """Turn the pairs (x_0, x_1), (x_2, x_3), … of (..., d) by complex numbers (..., d/2).

    One complex product instead of ten small operations: half of an AR step's time is overhead.
    """
    pairs = x.to(torch.promote_types(x.dtype, factors.real.dtype)).unflatten(-1, (-1, 2))
    return torch.view_as_real(torch.view_as_complex(pairs) * factors).flatten(-2).to(x.dtype)


def rotary_factors(cos: Tensor, sin: Tensor) -> Tensor:
    """The complex factors of q, k and v for `rotate`, (n, 3, 1, d/2), from (n, d/2); v stays."""
    factors = torch.complex(cos.float(), sin.float())
    return torch.stack((factors, factors, torch.ones_like(factors)), 1)[:, :, None]


class Weights(NamedTuple):
    """The tensors of a block: looking them up in modules costs more than a small product."""

    attention_norm: Tensor
    wqkv: Tensor
    wo: Tensor
    ffn_norm: Tensor
    w1: Tensor
    w3: Tensor
    w2: Tensor


def run_block(
    w: Weights, heads: int, x: Tensor, rotary: Tensor, cache: Tensor | None = None, start: int = 0,
    dropout: float = 0.0,
) -> Tensor:
    """x + attention(norm(x)), then x + SwiGLU(norm(x)).

    Args:
        w (Weights): of the block.
        heads (int): attention heads.
        x (Tensor): (B, n, D).
        rotary (Tensor): `rotary_factors` of the n positions.
        cache (Tensor | None): keys and values of all positions, (2, B, heads, L, d/heads); those
            of x are written in place. A head's rows lie together: attention reads them all.
        start (int): position of x's first row.
        dropout (float): part of what attention and SwiGLU add that is dropped.

    Returns:
        Tensor: (B, n, D).
    """
    b, n, d = x.shape
    x = x.reshape(b * n, d)  # a product of matrices is one call; of a stack of them, five
    h = F.rms_norm(x, (d,), w.attention_norm, 1e-5)
    qkv = rotate(F.linear(h, w.wqkv).view(b, n, 3, heads, -1), rotary)
    mask = None
    if cache is None:
        q, k, v = qkv.unbind(2)  # (B, n, heads, d/heads)
    else:
        cache[:, :, :, start : start + n] = qkv[:, :, 1:].permute(2, 0, 3, 1, 4)
        q, (k, v) = qkv.select(2, 0), cache[:, :, :, : start + n].transpose(2, 3).unbind(0)
        if start and n > 1:
            mask = torch.ones(n, start + n, dtype=torch.bool, device=x.device).tril(start)
            mask = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, float("-inf"))
    h = attention(q, k, v, mask, causal=n > 1 and mask is None)
    h = F.linear(h.reshape(b * n, d), w.wo)
    x = x + (F.dropout(h, dropout) if dropout else h)
    h = F.rms_norm(x, (d,), w.ffn_norm, 1e-5)
    h = F.linear(F.silu(F.linear(h, w.w1)) * F.linear(h, w.w3), w.w2)
    return (x + (F.dropout(h, dropout) if dropout else h)).view(b, n, d)


class Block(nn.Module):
    """The parameters of `run_block`."""

    dropout: float = 0.0  # in training mode: see `Backbone.set_dropout`

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        d = cfg.width
        self.heads = cfg.heads
        self.attention_norm, self.ffn_norm = nn.RMSNorm(d, eps=1e-5), nn.RMSNorm(d, eps=1e-5)
        self.wqkv, self.wo = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.w1, self.w3 = (nn.Linear(d, cfg.hidden, bias=False) for _ in range(2))
        self.w2 = nn.Linear(cfg.hidden, d, bias=False)

    def weights(self) -> Weights:
        """The parameters themselves, not copies."""
        return Weights(*(getattr(self, name).weight for name in Weights._fields))

    def forward(
        self, x: Tensor, rotary: Tensor, cache: Tensor | None = None, start: int = 0
    ) -> Tensor:
        """See `run_block`."""
        dropout = self.dropout if self.training else 0.0
        return run_block(self.weights(), self.heads, x, rotary, cache, start, dropout)


def code_input(cfg: TransformerConfig) -> nn.Module:
    """The input of code vectors (…, C) → (…, D): a Linear, or an MLP.

    Raises:
        DD2Error: an MLP without hidden layers.
    """
    if cfg.token_input != "mlp":
        return nn.Linear(cfg.code_dim, cfg.width)
    if cfg.input_hidden < 1 or cfg.input_layers < 1:
        raise DD2Error(f"token_input=mlp needs input_hidden={cfg.input_hidden} and input_layers="
                       f"{cfg.input_layers} to be at least 1.")
    widths = [cfg.code_dim, *[cfg.input_hidden] * cfg.input_layers, cfg.width]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class LlamaGenBackbone(Backbone):
    """Class token, token input, blocks and final norm: features h_i from q_<i (method §3)."""

    codebook: Tensor  # (V, C)
    cos: Tensor  # see `rotary_2d`
    sin: Tensor

    def __init__(self, cfg: TransformerConfig, codebook: Tensor):
        super().__init__()
        if cfg.token_input not in ("table", "codes", "mlp"):
            raise DD2Error(f"token_input={cfg.token_input} is unknown: use table, codes or mlp.")
        self.cfg, self.width = cfg, cfg.width
        self.class_embedding = nn.Embedding(cfg.num_classes + 1, cfg.width)
        table = cfg.token_input == "table"
        self.token_table = nn.Embedding(cfg.num_codes, cfg.width) if table else None
        self.code_input = None if table else code_input(cfg)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.depth))
        self.norm = nn.RMSNorm(cfg.width, eps=1e-5)
        self.register_buffer("codebook", codebook.detach().clone(), persistent=False)
        cos, sin = rotary_2d(cfg.grid, cfg.width // cfg.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.new: tuple[str, ...] = ()

    def table(self) -> Tensor:
        """The token input of every code, (V, D)."""
        return self.embed(self.codebook) if self.token_table is None else self.token_table.weight

    def embed(self, prefix: Tensor) -> Tensor:
        """Tokens (B, n) or code-like vectors (B, n, C) → (B, n, D)."""
        tokens = not prefix.is_floating_point()
        if tokens and self.token_table is not None:
            return self.token_table(prefix)
        assert self.code_input is not None, "vectors need `add_code_input` first"
        return self.code_input(self.codebook[prefix] if tokens else prefix)

    def forward(self, prefix: Tensor, labels: Tensor) -> Tensor:
        """Features of all positions at once.

        Args:
            prefix (Tensor): tokens (B, L) int64 or vectors (B, L, C); position i sees those
                before i.
            labels (Tensor): (B,) int64; num_classes is "unconditional".

        Returns:
            Tensor: (B, L, D).
        """
        x = self.class_embedding(labels)[:, None]  # (B, 1, D)
        x = torch.cat([x, self.embed(prefix[:, :-1]).to(x.dtype)], 1)  # (B, L, D)
        if self.training and self.dropout:
            x = F.dropout(x, self.dropout)
        return self.run_blocks(x)

    def run_blocks(self, x: Tensor) -> Tensor:
        """Blocks and final norm on inputs (B, n, D) that start with the class token."""
        n = x.shape[1]
        rotary = rotary_factors(self.cos[:n], self.sin[:n])
        for block in self.blocks:
            x = block(x, rotary)  # (B, L, D)
        return self.norm(x)

    def add_code_input(self) -> None:
        """Give a backbone with a token table the Linear(C, D) that vectors need (method §3).

        Initialised by least squares from code vectors to the table; trained in GTS.
        """
        if self.code_input is not None or self.token_table is None:
            return
        linear = nn.Linear(self.cfg.code_dim, self.width).to(self.codebook.device)
        self.code_input = linear
        if not self.codebook.is_meta:  # meta tensors have no values to fit
            ones = torch.ones_like(self.codebook[:, :1])
            x = torch.cat([self.codebook, ones], 1).cpu().double()
            table = self.token_table.weight.detach().cpu().double()
            solution = torch.linalg.lstsq(x, table).solution
            with torch.no_grad():
                linear.weight.copy_(solution[:-1].T)
                linear.bias.copy_(solution[-1])
        self.new = ("code_input.weight", "code_input.bias")

    def new_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are not copied from the teacher."""
        return self.new


class LlamaGenTransformer(nn.Module):
    """Backbone and the last Linear: logits of q_i from q_<i."""

    def __init__(self, cfg: TransformerConfig, codebook: Tensor):
        super().__init__()
        self.cfg = cfg
        self.backbone = LlamaGenBackbone(cfg, codebook)
        self.output = nn.Linear(cfg.width, cfg.num_codes, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.backbone.code_input is not None:  # C inputs of unit variance, few of them
            for module in self.backbone.code_input.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=module.in_features**-0.5)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """(B, L), (B,) int64 → logits (B, L, V)."""
        return self.output(self.backbone(tokens, labels))


