"""Spiking networks with one thing wrong, for what must find it."""

import dataclasses

import torch
from torch import nn

import transpike as ts
from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse


def small_network(seed: int = 0) -> nn.Module:
    """A VGG of three convolutions with maximum pools, batch normalisation whose eps is not small, and two linear layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12, eps=0.05), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16, eps=0.05), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16, eps=0.05), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10),
    )  # fmt: skip


def neurons(graph: Graph) -> list[Node]:
    return [node for node in graph if isinstance(node.op, Neuron) and not node.op.is_delay]


def synapse_before(graph: Graph, name: str) -> Node:
    """The layer of weights that a neuron hears."""
    node = graph[name]
    while not isinstance(node.op, Synapse):
        node = graph[node.inputs[0]]
    return node


def scaled_threshold(snn: ts.SNN, name: str, factor: float) -> ts.SNN:
    """θ and the worth of its spikes, × ``factor``."""
    node = snn.graph[name]
    cell = node.op.with_tensors(threshold=node.op.tensors()["threshold"] * factor)
    return dataclasses.replace(snn, graph=snn.graph.replaced(dataclasses.replace(node, op=cell)))


def _with(snn: ts.SNN, synapse: Node, **tensors: torch.Tensor) -> ts.SNN:
    new = dataclasses.replace(synapse, op=dataclasses.replace(synapse.op, **tensors), origin=())
    return dataclasses.replace(snn, graph=snn.graph.replaced(new))


def without_bias(snn: ts.SNN, name: str, channel: int) -> ts.SNN:
    """The bias of one channel is gone."""
    synapse = synapse_before(snn.graph, name)
    bias = synapse.op.bias.clone()
    bias[channel] = 0.0
    return _with(snn, synapse, bias=bias)


def wrongly_folded(snn: ts.SNN, name: str, normal: nn.BatchNorm2d, what: str) -> ts.SNN:
    """Batch normalisation folded without its running mean, or without its eps."""
    synapse = synapse_before(snn.graph, name)
    gain = normal.weight.detach() / torch.sqrt(normal.running_var + normal.eps)
    if what == "mean":
        return _with(snn, synapse, bias=synapse.op.bias + gain * normal.running_mean)
    wrong = normal.weight.detach() / torch.sqrt(normal.running_var)
    shape = (-1, *(1,) * (synapse.op.weight.ndim - 1))
    bias = synapse.op.bias + (gain - wrong) * normal.running_mean
    return _with(snn, synapse, weight=synapse.op.weight * (wrong / gain).reshape(shape), bias=bias)
