"""Adds a current to the neurons of a layer through the bias of the preceding layer."""

import dataclasses

import torch
from torch import Tensor

from transpike.core.channels import resolved, rows, shaped
from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.plain import is_plain
from transpike.neurons import CurrentMaximum


def only_synapse(graph: Graph, name: str) -> Node | None:
    """The synapse whose bias reaches only this neuron, unchanged and channel by channel; None if there is none."""
    readers, axes = graph.readers, graph.channel_axes
    node, axis = graph[name], axes[name]

    def same(other: Node) -> bool:
        """True if the node has the neuron's channels on the same axis."""
        return axes[other.name] == axis and other.shape[axis - 1 : axis] == graph[name].shape[axis - 1 : axis]

    while True:
        choices = [graph[i] for i in node.inputs if len(readers[i]) == 1 and same(graph[i])]
        synapses = [
            c for c in choices if isinstance(c.op, Synapse) and resolved(c.op.channel_axis, len(c.shape)) == axis
        ]
        if synapses:
            return synapses[0]
        through = [
            c for c in choices
            if is_plain(c.op, CurrentMaximum) or (getattr(c.op, "is_sum", False) and getattr(c.op, "is_whole", False))
        ]  # fmt: skip
        if len(through) != 1 or any(c < 0 for c in getattr(through[0].op, "coefficients", (1.0,))):
            return None
        node = through[0]


def passes_unchanged(graph: Graph, synapse: str, name: str) -> bool:
    """True if what is added to the output of the synapse reaches this neuron with a factor of 1."""
    while synapse != name:
        (reader,) = graph.readers[synapse]
        coefficients = getattr(graph[reader].op, "coefficients", None)
        if coefficients is not None and coefficients[graph[reader].inputs.index(synapse)] != 1:
            return False
        synapse = reader
    return True


def shifted(graph: Graph, synapse: Node, delta: Tensor) -> Graph:
    """The graph with ``delta`` (channels) added to the synapse's bias."""
    op = synapse.op
    assert isinstance(op, Synapse)
    if op.bias is not None and op.bias.ndim > 1 and delta.ndim == 1:  # a scale with a bias for each element
        delta = shaped(delta, graph.channel_axes[synapse.name], len(synapse.shape))
    bias = delta.to(op.weight.dtype) if op.bias is None else op.bias + delta.to(op.bias)
    new = dataclasses.replace(synapse, op=dataclasses.replace(op, bias=bias), origin=())
    return graph.replaced(new)


def per_channel(value: Tensor, shape: tuple[int, ...], axis: int) -> Tensor | None:
    """A layer's threshold (batch, *shape) as one value per channel; None if it varies within a channel."""
    flat = rows(value.expand(1, *shape), axis)
    return flat[:, 0] if bool((flat == flat[:, :1]).all()) else None


def channel_mean(value: Tensor, axis: int) -> Tensor:
    """(batch, *shape) with its channels on ``axis`` → (channels)."""
    if axis == 1 and value.ndim > 2:  # without a copy
        return (value.flatten(2).sum(2, dtype=torch.float64).sum(0) / (len(value) * value[0, 0].numel())).to(value)
    return rows(value, axis).mean(1)
