"""Neurons of either sign on the wires that are only encoded."""

import dataclasses
from dataclasses import dataclass

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.neurons import IntegrateAndFire, SignedEncoder
from transpike.passes._base import encodes


@dataclass(frozen=True)
class UseSignedEncoders(Pass):
    """Integrate-and-fire neurons in the place of ``Unchanged`` become signed encoders with v(0) = θ/2.

    Other initial potentials round their values to one side.
    """

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            old = node.op
            if not is_plain(old, IntegrateAndFire) or not encodes(old.source):
                return None
            cell = SignedEncoder(old.source, old.threshold, old.threshold / 2, spike_scale=old.spike_scale)
            return dataclasses.replace(node, op=cell)

        return graph.rewrite(change)

    def describe(self) -> str:
        return "signed neurons on linear wires"
