"""A small vision transformer (Dosovitskiy et al. 2021, section 3.1), with normalisation before every part.

Patches of 4×4 pixels become tokens; a class token, whose features are classified, is placed before them.
"""

import torch
from torch import Tensor, nn

from transpike.models._base import FASHION, Model

PATCH, FEATURES, HEADS, BLOCKS = 4, 64, 4, 3


class Attention(nn.Module):
    """``softmax(q kᵀ / √d) v`` for every head; (batch, tokens, features)."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (features // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(features, features) for _ in range(3))
        self.output = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.output((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and two linear layers with GELU between them, each after a normalisation and with a shortcut."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(features), Attention(features, heads)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = nn.Sequential(nn.Linear(features, 2 * features), nn.GELU(), nn.Linear(2 * features, features))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Images (batch, in_channels, 28, 28) → logits (batch, num_classes)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, size: int = 28) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, FEATURES, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, FEATURES) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (size // PATCH) ** 2 + 1, FEATURES) * 0.02)
        self.blocks = nn.Sequential(*(Block(FEATURES, HEADS) for _ in range(BLOCKS)))
        self.norm, self.classifier = nn.LayerNorm(FEATURES), nn.Linear(FEATURES, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(tokens.shape[0], -1, -1), tokens), 1) + self.positions
        return self.classifier(self.norm(self.blocks(x))[:, 0])


model = Model("vit-tiny", VisionTransformer, (1, 28, 28), FASHION)
