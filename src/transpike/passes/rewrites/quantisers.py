"""Networks whose values are quantised wherever weights or products read them."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from transpike.activations import Quantiser, ReLU, Unchanged
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.errors import UnsupportedModel
from transpike.passes._levels import level_of


@dataclass(frozen=True)
class JoinQuantisers(Pass):
    """A ReLU that only quantisers read becomes part of them: their levels begin at 0."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        gone: dict[str, str] = {}
        joined: set[str] = set()
        for node in graph:
            readers = graph.consumers()[node.name]
            if is_plain(node.op, ReLU) and readers and all(is_plain(reader.op, Quantiser) for reader in readers):
                gone[node.name] = node.inputs[0]
                joined |= {reader.name for reader in readers}

        def change(node: Node) -> Node | str | None:
            if node.name in joined and is_plain(node.op, Quantiser):
                return dataclasses.replace(node, op=dataclasses.replace(node.op, lowest=0))
            return gone.get(node.name)

        return graph.rewrite(change)


@dataclass(frozen=True)
class RefuseUnquantised(Pass):
    """Raises UnsupportedModel where an activation is not quantised, or weights or a product read a value that is not.

    It comes after ``EncodeWires(behind="analogue")``, which marks such values. Sums of quantised values, and what
    linear wiring makes of them, are read as they are.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        read = [node.inputs[0] for node in graph if is_plain(node.op, Unchanged)]
        other = [
            f"{node.path or node.name} ({node.op.describe()})"
            for node in graph
            if getattr(node.op, "role", "") == "activation" and level_of(node.op) is None
            if not is_plain(node.op, Unchanged)
        ]
        if other:
            raise UnsupportedModel(
                f"this method needs quantised activations, but these are not: {', '.join(other)}; train with "
                "activations.QuantisedClip or torch.fake_quantize_per_tensor_affine after them, or use sigma-delta"
            )
        if read:
            raise UnsupportedModel(
                f"weights or products read values that are not quantised, those of {', '.join(read)}; put "
                "torch.fake_quantize_per_tensor_affine after them in training, or use sigma-delta"
            )
        return graph

    def describe(self) -> str:
        return "quantised networks only"
