"""Checks that a captured network computes what the model does, each sample alone."""

import torch
from torch import Tensor, nn

import transpike as ts

TOLERANCE = 1e-5


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(model: nn.Module, *shape: int) -> ts.Graph:
    """The graph computes what the model does, for batches of several sizes, and no sample sees another."""
    with torch.no_grad():
        graph = ts.capture(model, rand(2, *shape), on_unsupported="keep")
        x = rand(3, *shape, seed=1)
        for count in (1, 2, 3):
            expected, answer = model(x[:count]), graph.run(x[:count])
            assert answer.shape == expected.shape
            assert float((answer - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))
        mixed = graph.run(torch.cat([x[1:2], 50 * x[:1]]))
        assert torch.allclose(mixed[:1], graph.run(x[1:2]), rtol=1e-5, atol=TOLERANCE)
    return graph
