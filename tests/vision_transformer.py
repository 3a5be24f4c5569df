"""A small vision transformer for the embedded digits, and the same function with outlying features."""

import copy

import torch
from torch import Tensor, nn

FEATURES, HEADS, TOKENS, PATCH = 16, 2, 17, 2


class Block(nn.Module):
    """Attention and a fully connected part, each after a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(FEATURES), nn.LayerNorm(FEATURES)
        self.qkv, self.out = nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, FEATURES)
        self.fc1, self.act, self.fc2 = nn.Linear(FEATURES, 32), nn.GELU(), nn.Linear(32, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        batch, size = x.shape[0], FEATURES // HEADS
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, TOKENS, 3, HEADS, size).permute(2, 0, 3, 1, 4)
        weights = (q * size**-0.5 @ k.transpose(-1, -2)).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, TOKENS, FEATURES))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Patches of 2 × 2 pixels, a class token, two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, FEATURES, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, FEATURES))
        self.positions = nn.Parameter(0.02 * torch.randn(1, TOKENS, FEATURES))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(FEATURES), nn.Linear(FEATURES, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def with_outliers(model: nn.Module, size: float = 64.0) -> nn.Module:
    """The same function: in every layer norm and one head, two features are ``size`` times larger.

    The weights that read them are as many times smaller. ``size`` is a power of two, so that the products are the same
    floating-point numbers.
    """
    model, features, head = copy.deepcopy(model), [3, 11], FEATURES // HEADS
    assert isinstance(model, VisionTransformer)
    pairs = [(norm, layer) for b in model.blocks for norm, layer in ((b.norm1, b.qkv), (b.norm2, b.fc1))]
    with torch.no_grad():
        for norm, layer in [*pairs, (model.norm, model.head)]:
            norm.weight[features] *= size
            norm.bias[features] *= size
            layer.weight[:, features] /= size
        for block in model.blocks:
            query, key, value = (block.qkv.weight[k * FEATURES + head + 2][None] for k in range(3))
            biases = [block.qkv.bias[k * FEATURES + head + 2][None] for k in range(3)]
            for part, factor in zip((query, key, value), (size, 1 / size, size), strict=True):
                part *= factor
            for bias, factor in zip(biases, (size, 1 / size, size), strict=True):
                bias *= factor
            block.out.weight[:, head + 2] /= size
    return model
