"""Weight quantisation without retraining."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.pass_ import Context, Pass
from transpike.errors import SettingError
from transpike.ops import Conv
from transpike.weights import logarithmic, uniform

WeightScale = Literal["uniform", "logarithmic"]
WeightGranularity = Literal["layer", "channel"]


@dataclass(frozen=True)
class QuantiseWeights(Pass):
    """Quantises each layer's weights to ``bits`` bits, uniform and signed (ECC: 7 to 10) or logarithmic (CAT: 5).

    ``fraction_bits`` and ``granularity`` as in ``weights.logarithmic``. Biases are not quantised.
    """

    bits: int = 8
    scale: WeightScale = "uniform"
    fraction_bits: int | None = None
    granularity: WeightGranularity = "layer"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise SettingError(f"weight bits must be between 2 and 16, not {self.bits}")
        if self.scale not in get_args(WeightScale):
            raise SettingError(f"weight_scale must be one of {', '.join(get_args(WeightScale))}, not {self.scale!r}")
        if self.scale == "logarithmic" and not 3 <= self.bits <= 12:
            raise SettingError(
                f"logarithmic weights have 3 to 12 bits, not {self.bits}; weight_scale='uniform' takes 2 to 16"
            )

        if self.granularity not in get_args(WeightGranularity):
            raise SettingError(f"weight_granularity must be 'layer' or 'channel', not {self.granularity!r}")
        if self.scale == "uniform" and self.granularity == "channel":
            raise SettingError(
                "uniform weights have one scale per layer; use weight_granularity='layer' or weight_scale='logarithmic'"
            )

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not isinstance(node.op, Synapse) or node.op.weight.ndim < 2:
                return None
            weight = node.op.weight
            if isinstance(node.op, Conv) and node.op.transposed and self.granularity == "channel":
                groups = node.op.groups  # its weight is (in, out / groups, …)
                quantised = _swapped(self._quantised(_swapped(weight, groups)), groups)
            else:
                quantised = self._quantised(weight)
            return dataclasses.replace(node, op=node.op.with_tensors(weight=quantised))

        return graph.rewrite(change)

    def _quantised(self, weight: Tensor) -> Tensor:
        if self.scale == "uniform":
            return uniform(weight, self.bits)
        return logarithmic(weight, self.bits, self.fraction_bits, self.granularity).values.to(weight.dtype)


def _swapped(weight: Tensor, groups: int) -> Tensor:
    """(in, out / groups, …) ↔ (out, in / groups, …)."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
