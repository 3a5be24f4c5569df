"""Folds the weights and biases of layer norms into the layers after them."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.channels import resolved, rows
from transpike.core.graph import Graph, Node
from transpike.core.op import Op, Synapse
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import AvgPool, Conv, Linear, Mean, Scale
from transpike.ops.analogue import AnalogueOp
from transpike.ops.wiring import Selection

PLACES = {"aten.layer_norm.default": (2, 3), "aten.rms_norm.default": (2,)}
"""Operators of torch, and which of their arguments are the weight and the bias."""
ROUNDING = 1e-9
"""Relative difference of sums in float64 in another order."""


@dataclass(frozen=True)
class FoldLayerNorm(Pass):
    """The weight γ and bias β of a LayerNorm or RMSNorm become part of the next layers: ``W' = W γ, b' = b + W β``.

    So do those of a scale after an analogue operator, as in a norm that is written by hand. All readers of the norm
    must be fully connected layers or convolutions, directly or after wiring that moves or averages elements; otherwise
    the norm remains as it is: where a residual sum reads it too, or a convolution that pads a bias β with zeros. A
    neuron after a folded norm encodes the normalised value, whose size does not depend on γ.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        changed: dict[str, Node] = {}
        gone: dict[str, str] = {}
        for node in graph:
            terms = _terms(graph, node)
            layers = None if terms is None else _folded(graph, node, *terms)
            if layers is None:
                continue
            changed |= layers
            if is_plain(node.op, Scale):
                gone[node.name] = node.inputs[0]
            elif isinstance(node.op, AnalogueOp):
                changed[node.name] = dataclasses.replace(node, op=_without_terms(node.op), origin=())

        def change(node: Node) -> Node | str | None:
            new = changed.get(node.name)
            return gone.get(node.name) or (new and dataclasses.replace(new, inputs=node.inputs))

        return graph.rewrite(change)


def _terms(graph: Graph, node: Node) -> tuple[Tensor, Tensor] | None:
    """γ and β of ``y = γ x + β``, where x is a normalised value or that of an analogue operator; (1, *shape) each."""
    op, zeros = node.op, torch.zeros((1, *node.shape), dtype=torch.float64)
    if is_plain(op, Scale):
        before = graph[node.inputs[0]].op
        if not isinstance(before, Op) or before.role not in ("analogue", "product"):
            return None
        wide = op.to(dtype=torch.float64)
        return wide.linear(zeros + 1), wide.run(zeros)
    if type(op) is not AnalogueOp or op.operator not in PLACES or op.options:
        return None
    given = [op.arguments[place] for place in PLACES[op.operator] if place < len(op.arguments)]
    tensors = [None if value is None else op.constants[value[1]].double() for value in given]
    weight, bias = (*tensors, None, None)[:2]
    if weight is None and bias is None:
        return None
    return zeros + (1 if weight is None else weight), zeros + (0 if bias is None else bias)


def _without_terms(op: AnalogueOp) -> AnalogueOp:
    places = PLACES[op.operator]
    arguments = tuple(None if index in places else value for index, value in enumerate(op.arguments))
    return dataclasses.replace(op, arguments=arguments, constants=())


def _folded(graph: Graph, node: Node, weight: Tensor, bias: Tensor) -> dict[str, Node] | None:
    """The layers that read ``weight · x + bias`` from a node, changed so that they read x; None if others read it."""
    layers: dict[str, Node] = {}
    if node.name == graph.output.name:
        return None
    for reader in graph.consumers()[node.name]:
        op, found = reader.op, None
        if is_plain(op, (Linear, Conv)):
            layer = _layer(op, weight, bias)
            found = None if layer is None else {reader.name: dataclasses.replace(reader, op=layer, origin=())}
        elif len(reader.inputs) == 1 and isinstance(op, Op):
            factor = _through(op, weight)
            found = None if factor is None else _folded(graph, reader, factor, op.run(bias))
        if found is None:
            return None
        layers |= found
    return layers


def _layer(op: Linear | Conv, weight: Tensor, bias: Tensor) -> Synapse | None:
    """The layer that maps x to what ``op`` maps ``weight · x + bias`` to."""
    wide = op.to(dtype=torch.float64)
    absorbed = wide.absorb(weight)
    if absorbed is None:
        return None
    if bool(bias.any()):
        shift = rows(wide.linear(bias), resolved(wide.channel_axis, bias.ndim - 1))
        if float((shift - shift[:, :1]).abs().max()) > ROUNDING * float(shift.abs().max()):
            return None  # at the border, where zeros take the place of the bias
        absorbed = dataclasses.replace(absorbed, bias=shift[:, 0] + (0 if wide.bias is None else wide.bias))
    return absorbed.to(dtype=op.weight.dtype)


def _through(op: Op, weight: Tensor) -> Tensor | None:
    """The factor after wiring: f with ``op(weight · x) = f · op(x)`` for every x; None if there is none."""
    if is_plain(op, Selection):
        return op.run(weight)
    if not is_plain(op, (AvgPool, Mean)):
        return None
    passed = op.propagate_levels((weight,))
    if passed is None or passed[1] is None:
        return None
    ones = torch.ones_like(weight)
    return passed[1] * op.total().run(ones) / op.run(ones)
