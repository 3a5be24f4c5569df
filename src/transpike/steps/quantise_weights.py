"""Weights on few bits, without retraining."""

import dataclasses
from dataclasses import dataclass

from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.step import Context, Step
from transpike.errors import SettingError
from transpike.weights import uniform


@dataclass(frozen=True)
class QuantiseWeights(Step):
    """Each layer's weights on a signed uniform scale of ``bits`` bits (ECC's study: 7 to 10)."""

    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise SettingError(f"weight bits must be between 2 and 16, not {self.bits}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not isinstance(node.op, Synapse) or node.op.weight.ndim < 2:
                return None
            return dataclasses.replace(node, op=node.op.with_tensors(weight=uniform(node.op.weight, self.bits)))

        return graph.rewrite(change)
