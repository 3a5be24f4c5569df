"""Passes that refuse networks which a method does not support."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.activations import Staircase
from transpike.core.graph import Graph
from transpike.core.op import Synapse
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.errors import SettingError, UnsupportedModel


@dataclass(frozen=True)
class RefuseBiases(Pass):
    """Raises UnsupportedModel where a layer has a bias, its own or from a folded batch normalisation."""

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        biased = [
            node.name for node in graph
            if isinstance(node.op, Synapse) and node.op.bias is not None and bool(node.op.bias.any())
        ]  # fmt: skip
        if biased:
            raise UnsupportedModel(
                f"this method does not support biases, but these layers have one: {', '.join(biased)}; train with "
                "bias=False and without batch normalisation, or use weight-normalisation, which supports biases"
            )
        return graph

    def describe(self) -> str:
        return "biases refused"


@dataclass(frozen=True)
class RefuseLevels(Pass):
    """Raises SettingError where the level count of a quantised activation differs from the recipe's time steps.

    Raises UnsupportedModel where an activation is not quantised.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        found = {}
        for node in graph:
            if getattr(node.op, "role", "") == "activation":
                if not is_plain(node.op, Staircase) or node.op.slope:
                    raise UnsupportedModel(
                        f"{node.path or node.name} is a {node.op.describe()}, not a quantised clip without slope; "
                        "train with activations.QuantisedClip, or use the recipe qcfs"
                    )
                found[node.path or node.name] = node.op.levels
        other = {name: levels for name, levels in found.items() if levels != context.timesteps}
        if other:
            name, levels = next(iter(other.items()))
            raise SettingError(
                f"{name} has {levels} levels and the recipe has {context.timesteps} time steps, which must be equal; "
                + (f"use timesteps={levels}" if len(set(found.values())) == 1 else "train all layers with equal levels")
            )
        return graph

    def describe(self) -> str:
        return "T = L"
