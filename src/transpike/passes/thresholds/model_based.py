"""Thresholds from weights alone."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Graph, Input
from transpike.core.op import Op, Synapse
from transpike.core.pass_ import Context
from transpike.core.plain import is_plain
from transpike.errors import UnsupportedModel
from transpike.ops import AdaptiveMaxPool, MaxPool
from transpike.passes._base import Thresholds, encodes
from transpike.passes._sides import other_sides


@dataclass(frozen=True)
class ModelBasedThresholds(Thresholds):
    """``θ_n = max over neurons of Σ max(w, 0) θ_{n−1} + max(b, 0)``, the largest possible input of one step.

    The bound is reached when every preceding neuron fires in the same step. It uses no activations; of the data, only
    the largest input. One threshold per layer, channel or neuron. If inputs are negative, the bound on the input is
    its largest absolute value with either sign.
    Source: Diehl et al. 2015, IJCNN, section III.C (model-based normalisation), which has no biases.
    Raises UnsupportedModel for operators that are neither linear nor activations nor maximum pooling.
    """

    asks: ClassVar[str] = ""

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        largest = torch.stack([batch.abs().amax() for batch in context.batches]).amax()
        signed = any(bool((batch < 0).any()) for batch in context.batches)
        found: dict[str, Tensor] = {}
        sides = other_sides(graph)
        bounds: dict[str, tuple[Tensor, Tensor]] = {}  # the bounds of a wire in one step
        for node in graph:
            if isinstance(node.op, Input):
                most = largest.expand(1, *node.shape)
                bounds[node.name] = (-most if signed else torch.zeros_like(most), most)
                continue
            inputs = [bounds[name] for name in node.inputs]
            low, high = _through(node.name, node.op, inputs)
            if self.fires(graph, node):
                high = torch.maximum(high, -low) if encodes(node.op) else high
                if node.name in sides and not bool((high > 0).any()):  # the bound of the other side, which can fire
                    assert isinstance(node.op, Op)
                    high = node.op.run(-inputs[0][0])
                axis = graph.channel_axes[node.name]
                found[node.name] = self.rows(high.clamp(min=0), axis).amax(1)
                high = self.threshold(node, found[node.name], axis).expand(1, *node.shape)
                low = -high if encodes(node.op) else torch.zeros_like(high)
            bounds[node.name] = low, high
        return found

    def describe(self) -> str:
        return f"bound from the weights, per {self.granularity}"


def _through(name: str, op: object, inputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Interval arithmetic: the (lower, upper) bound of an op's output."""
    if isinstance(op, Synapse):
        positive = dataclasses.replace(op, weight=op.weight.clamp(min=0), bias=None)
        negative = dataclasses.replace(op, weight=op.weight.clamp(max=0), bias=None)
        low, high = inputs[0]
        bias = dataclasses.replace(op, weight=torch.zeros_like(op.weight)).run(torch.zeros_like(low))
        # a bias of either sign: it may be added before or after the other inputs of a neuron
        return (
            positive.run(low) + negative.run(high) + bias.clamp(max=0),
            positive.run(high) + negative.run(low) + bias.clamp(min=0),
        )
    if isinstance(op, Op) and op.role == "activation":
        return op.run(inputs[0][0]), op.run(inputs[0][1])
    lows, highs = [pair[0] for pair in inputs], [pair[1] for pair in inputs]
    if isinstance(op, Op) and not op.is_linear:
        if is_plain(op, (MaxPool, AdaptiveMaxPool)):
            return op.run(*lows), op.run(*highs)
        raise UnsupportedModel(
            f"{name} ({op.describe()}) has no bound from its weights; use thresholds from activations "
            "(weight-normalisation)"
        )
    assert isinstance(op, Op)
    if any(c < 0 for c in getattr(op, "coefficients", ())):
        pairs = [pair if c >= 0 else pair[::-1] for pair, c in zip(inputs, op.coefficients, strict=True)]  # type: ignore[attr-defined]
        lows, highs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return op.run(*lows), op.run(*highs)
