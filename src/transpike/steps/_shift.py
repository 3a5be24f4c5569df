"""Adding a current to the neurons of a layer by the bias of the layer before it."""

import dataclasses

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.plain import is_plain
from transpike.neurons import CurrentMaximum


def only_synapse(graph: Graph, name: str) -> Node | None:
    """The synapse whose bias reaches this neuron, and nothing else, channel by channel as it is; None without one."""
    readers = graph.readers
    node = graph[name]
    while True:
        choices = [graph[i] for i in node.inputs if len(readers[i]) == 1 and graph[i].shape[0] == graph[name].shape[0]]
        synapses = [c for c in choices if isinstance(c.op, Synapse) and (c.op.channel_axis == 1 or len(c.shape) == 1)]
        if synapses:
            return synapses[0]
        through = [
            c for c in choices
            if is_plain(c.op, CurrentMaximum) or (getattr(c.op, "is_sum", False) and getattr(c.op, "is_whole", False))
        ]  # fmt: skip
        if len(through) != 1 or any(c < 0 for c in getattr(through[0].op, "coefficients", (1.0,))):
            return None
        node = through[0]


def shifted(graph: Graph, synapse: Node, delta: Tensor) -> Graph:
    """The graph with ``delta`` (channels) added to the synapse's bias."""
    op = synapse.op
    assert isinstance(op, Synapse)
    bias = delta.to(op.weight.dtype) if op.bias is None else op.bias + delta.to(op.bias)
    new = dataclasses.replace(synapse, op=dataclasses.replace(op, bias=bias), origin=())
    return graph.replaced(new)


def per_channel(value: Tensor, channels: int) -> Tensor | None:
    """A threshold as one value a channel, or None where the places of a channel differ."""
    if value.numel() == 1:
        return value.reshape(1).expand(channels)
    flat = value.reshape(value.shape[0], -1)
    return flat[:, 0] if bool((flat == flat[:, :1]).all()) and len(flat) == channels else None


def channel_mean(value: Tensor) -> Tensor:
    """(batch, channels, …) → (channels)."""
    return torch.movedim(value, 1, 0).flatten(1).mean(1)
