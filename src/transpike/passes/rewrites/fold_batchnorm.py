"""Batch normalisation folded into the layer before it (ECC's consistency maintenance, CMB)."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from transpike.core.channels import resolved
from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import BatchNorm
from transpike.ops.scale import Scale


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """``W ← γ/√(σ²+ε) · W,  b ← γ/√(σ²+ε) · (b − μ) + β`` with the layer's own ε and running statistics.

    Without a preceding synapse (pre-activation networks, DenseNet) the normalisation becomes a diagonal synapse.
    Source: Wu, Yi, Huang 2022, Front. Neurosci. 16:759900 (CMB); computed in float64.
    """

    exact: ClassVar[bool] = True

    def factor_and_shift(self, op: BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
        return op.factor_and_shift()

    def apply(self, graph: Graph, context: Context) -> Graph:
        consumers = graph.consumers()
        table = {node.name: node for node in graph}
        folded: dict[str, Node] = {}
        gone: dict[str, str] = {}
        for node in graph:
            if not is_plain(node.op, BatchNorm):
                continue
            factor, shift = self.factor_and_shift(node.op)
            source = table[node.inputs[0]]
            op = source.op
            fits = isinstance(op, Synapse) and not isinstance(op, BatchNorm) and len(consumers[source.name]) == 1
            if (
                fits
                and isinstance(op, Synapse)
                and resolved(op.channel_axis, len(source.shape)) == resolved(node.op.channel_axis, len(source.shape))
                and op.weight.ndim > 1
            ):
                wide = op.to(dtype=torch.float64)
                assert isinstance(wide, Synapse)
                wide = wide.scale_outputs(factor)
                bias = shift if wide.bias is None else wide.bias + shift
                narrow = dataclasses.replace(
                    wide, weight=wide.weight.to(op.weight.dtype), bias=bias.to(op.weight.dtype)
                )
                folded[source.name] = dataclasses.replace(source, op=narrow, origin=())
                gone[node.name] = source.name
            else:
                scale = Scale(weight=factor.float(), bias=shift.float())
                folded[node.name] = dataclasses.replace(node, op=scale, origin=())

        return graph.rewrite(lambda node: gone.get(node.name) or _replaced(node, folded))


def _replaced(node: Node, table: dict[str, Node]) -> Node | None:
    return dataclasses.replace(table[node.name], inputs=node.inputs) if node.name in table else None
