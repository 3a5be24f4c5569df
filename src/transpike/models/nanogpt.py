"""A small decoder of characters: a GPT in the form of nanoGPT, from its description."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.models._base import Model

VOCABULARY, CONTEXT = 96, 64
"""The printable characters of ASCII and the line feed, and the length of a text."""


class Block(nn.Module):
    """Attention to what came before, and a layer of GELUs, each after a normalisation and around a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).split(width, 2)
        q, k, v = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class NanoGPT(nn.Module):
    """Numbers of characters (batch, context) → logits of the next one (batch, context, vocabulary).

    Learned positions, ``depth`` blocks of pre-normalised attention with ``heads`` heads, a last normalisation, and a
    head whose weights are those of the look-up. Length is exactly ``context``.
    Source: Karpathy, nanoGPT, **from its description**.
    """

    def __init__(
        self, vocabulary: int = VOCABULARY, context: int = CONTEXT, width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):  # their sum over the depth varies as one of them
                nn.init.normal_(weight, std=0.02 / (2 * depth) ** 0.5)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


model = Model("nanogpt", NanoGPT, (CONTEXT,), Preprocessing(), VOCABULARY)
