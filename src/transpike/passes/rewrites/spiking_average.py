"""Average pooling followed by a separate neuron."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from transpike.activations import Clip, ReLU, Unchanged
from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import AdaptiveMaxPool, MaxPool, Resample
from transpike.ops.wiring import Average


@dataclass(frozen=True)
class SpikingAverage(Pass):
    """Adds a ReLU, which later becomes a neuron, after every average pooling of activations.

    Pooled spikes are binary again, at the cost of one more quantisation. Exact: means of non-negative values are
    non-negative, and means of clipped values lie below the largest clip, which is the clip of the added layer (for a
    sum, times the number of its terms). An
    average before an activation needs no further neuron; one of the input or of a signed wire, or directly before the
    readout, remains linear.
    Source: SpKeras (ECC's code) and Li et al. 2021 (AvgPoolConv on ImageNet).
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        positive: set[str] = set()
        ceilings: dict[str, float] = {}  # of wires with a learned upper bound
        readers = graph.consumers()
        nodes: list[Node] = []
        renamed: dict[str, str] = {}
        renamed_from: dict[str, str] = {}
        for node in graph:
            node = dataclasses.replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
            nodes.append(node)
            op = node.op
            kept = isinstance(op, Op) and bool(node.inputs) and set(node.inputs) <= positive and _keeps_sign(op)
            if kept or (isinstance(op, Op) and op.role == "activation" and not is_plain(op, Unchanged)):
                positive.add(node.name)
                ceiling = getattr(op, "ceiling", None)
                if ceiling is not None:
                    ceilings[node.name] = float(torch.as_tensor(ceiling).max())
                elif kept and isinstance(op, Op) and set(node.inputs) <= ceilings.keys():
                    factors = getattr(op, "coefficients", ()) or (1.0,)
                    largest = [_gain(op, graph[renamed_from.get(i, i)].shape) * ceilings[i] for i in node.inputs]
                    summed = sum(c * f for c, f in zip(largest, factors, strict=False))
                    ceilings[node.name] = summed if getattr(op, "coefficients", ()) else max(largest)
            followed = all(isinstance(r.op, Op) and r.op.role == "activation" for r in readers[node.name])
            pooled = is_plain(op, Average) and node.name in positive and node.name != graph.output.name
            if pooled and not followed:
                name = f"{node.name}.fired"
                clip = Clip(ceilings[node.name]) if node.name in ceilings else ReLU()
                nodes.append(Node(name, clip, (node.name,), node.path))
                positive.add(name)
                if node.name in ceilings:
                    ceilings[name] = ceilings[node.name]
                renamed[node.name], renamed_from[name] = name, node.name
        return Graph(tuple(nodes)) if renamed else graph


def _gain(op: Op, shape: tuple[int, ...]) -> float:
    """The largest output of an average of inputs of at most 1: 1, but more for a sum."""
    return float(op.run(torch.ones(1, *shape)).max()) if is_plain(op, Average) else 1.0


def _keeps_sign(op: Op) -> bool:
    """True where non-negative inputs give non-negative outputs: moved, pooled, added."""
    if is_plain(op, Resample):  # bicubic interpolation has negative weights
        return not any(bool((matrix < 0).any()) for matrix in op.tensors().values())
    pooled = is_plain(op, (MaxPool, AdaptiveMaxPool))
    return pooled or (op.role == "wiring" and all(c >= 0 for c in getattr(op, "coefficients", ())))
