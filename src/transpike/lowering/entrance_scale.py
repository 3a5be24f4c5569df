"""The unit of an input of integers, multiplied into the weights that read it."""

import dataclasses
from collections.abc import Mapping

import torch

from transpike.core.graph import Input, Node
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.lowering.lowered import Lowered
from transpike.ops.conv import Conv
from transpike.ops.linear import Linear
from transpike.ops.scale import Scale
from transpike.ops.wiring import Selection

SYNAPSES = (Conv, Linear, Scale)


def with_scaled_weights(lowered: Lowered) -> Lowered:
    """The same form without a scale directly after the input, where layers of weights read it, rearranged or not.

    The biases, which contain its offset, are already those of the layers after it. The first layer then multiplies
    integers by one weight each, so that its sums are integers of a grid.
    """
    table = {node.name: node for node in lowered.nodes}
    for scale in lowered.nodes:
        if is_plain(scale.op, Scale) and type(table[scale.inputs[0]].op) is Input:
            changed = _changed(lowered, scale)
            return lowered if changed is None else _without(lowered, scale, changed)
    return lowered


def _changed(lowered: Lowered, scale: Node) -> dict[str, Node] | None:
    """The nodes that take over the scale; None if one of them cannot."""
    assert isinstance(scale.op, Scale)
    factors = {scale.name: scale.op.linear(torch.ones((1, *scale.shape), dtype=torch.float64))}
    changed: dict[str, Node] = {}
    for node in lowered.nodes:
        factor = factors.get(node.inputs[0]) if node.inputs else None
        if factor is None and not any(name in factors for name in node.inputs):
            continue
        inputs = tuple(scale.inputs[0] if name == scale.name else name for name in node.inputs)
        op: Op | None = None
        if factor is not None and isinstance(node.op, (Conv, Linear, Scale)) and is_plain(node.op, SYNAPSES):
            op = node.op.absorb(factor)
        elif factor is not None and len(node.inputs) == 1 and isinstance(node.op, Selection):
            op = node.op
            moved = op.run(factor)
            factors[node.name] = torch.where(moved == 0, torch.nan, moved)  # of a zero any factor is right
        if op is None:
            return None
        changed[node.name] = dataclasses.replace(node, op=op, inputs=inputs)
    return changed


def _without(lowered: Lowered, gone: Node, changed: Mapping[str, Node]) -> Lowered:
    nodes = tuple(changed.get(node.name, node) for node in lowered.nodes if node.name != gone.name)
    return dataclasses.replace(
        lowered,
        nodes=nodes,
        spike_scales={name: value for name, value in lowered.spike_scales.items() if name != gone.name},
        alphabets={name: value for name, value in lowered.alphabets.items() if name != gone.name},
        axes={name: axis for name, axis in lowered.axes.items() if name != gone.name},
    )
