"""Initial potentials."""

import dataclasses
from dataclasses import dataclass

from transpike.activations import Staircase
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.errors import SettingError
from transpike.neurons import IntegrateAndFire


@dataclass(frozen=True)
class InitialPotential(Pass):
    """``v(0) = β θ``: ½ makes the expected error of a staircase zero (OPI, Bu et al. 2022, theorem 2; ECC's TRE)."""

    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise SettingError(f"beta must be in [0, 1), not {self.beta}: it is the share of θ that v starts from")

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not isinstance(node.op, IntegrateAndFire):
                return None
            share = self.share(node.op)
            return dataclasses.replace(node, op=node.op.with_tensors(initial=share * node.op.threshold))

        return graph.rewrite(change)

    def share(self, cell: IntegrateAndFire) -> float:
        """v(0) / θ of a neuron."""
        return self.beta

    def describe(self) -> str:
        return f"v(0) = {self.beta:g} θ" if self.beta else ""


@dataclass(frozen=True)
class LearnedInitialPotential(InitialPotential):
    """``v(0) = φ θ`` with the φ of the source's staircase ``⌊z L/θ + φ⌋``; ``beta`` θ for other activations."""

    def share(self, cell: IntegrateAndFire) -> float:
        source = cell.source
        return source.shift if is_plain(source, Staircase) and source.slope < 1 else self.beta

    def describe(self) -> str:
        return "v(0) as trained"
