"""Small decoders with random weights, whose answers at a position depend on that position and those before it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Decoder(nn.Module):
    """One word per position: look-up, positions, blocks of causal attention and a gated layer, a head.

    ``masked`` attention is written as products and a mask, else as torch's function. ``norm`` False leaves out the
    normalisations. With ``soft`` the mask is a summand of −60.
    """

    def __init__(
        self, words: int = 11, length: int = 6, width: int = 8, depth: int = 1, heads: int = 2, masked: bool = True,
        norm: bool = True, causal: bool = True, soft: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(length, width) / 4)
        self.blocks = nn.ModuleList(Block(length, width, heads, masked, norm, causal, soft) for _ in range(depth))
        self.head = nn.Linear(width, words)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Block(nn.Module):
    def __init__(self, length: int, width: int, heads: int, masked: bool, norm: bool, causal: bool, soft: bool) -> None:
        super().__init__()
        self.heads, self.masked, self.causal, self.soft = heads, masked, causal, soft
        self.norm1, self.norm2 = (nn.LayerNorm(width) if norm else nn.Identity() for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.gate, self.down = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("future", torch.ones(length, length, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.masked:
            scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
            if self.causal:  # a finite number is a constant summand, not recognised as a mask
                hidden = scores.masked_fill(self.future, -torch.inf), scores - 60 * self.future
                scores = hidden[self.soft]
            y = scores.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))
