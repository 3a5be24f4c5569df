"""Thresholds learned by the source network."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context
from transpike.errors import UnsupportedModel
from transpike.passes._base import Axes, Thresholds, is_activation


@dataclass(frozen=True)
class LearnedThresholds(Thresholds):
    """``θ`` = the ceiling of the source activation: of a clip, or of QCFS's quantised clip.

    One threshold per layer or channel, in the shape of the ceiling. Raises UnsupportedModel where an activation has
    no ceiling. Source: Ho and Chang 2020 (TCL); Bu et al. 2022 (QCFS), section 4.
    """

    asks: ClassVar[str] = ""

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        found = {}
        for node in graph:
            if isinstance(node.op, Op) and is_activation(node):
                ceiling = getattr(node.op, "ceiling", None)
                if ceiling is None:
                    raise UnsupportedModel(
                        f"{node.path or node.name} is a {node.op.describe()} without a ceiling, so no threshold was "
                        "learned; train with a clipped activation, or use a recipe that calibrates thresholds"
                    )
                found[node.name] = torch.as_tensor(ceiling, dtype=torch.float32).reshape(-1)
        return found

    def threshold(self, node: Node, values: Tensor, axis: Axes) -> Tensor:
        if len(values) == 1:
            return values.reshape(())
        ceiling = torch.as_tensor(node.op.ceiling, dtype=torch.float32)  # type: ignore[union-attr]
        shape = ceiling.shape[max(0, ceiling.ndim - len(node.shape)) :]  # as it broadcasts in the source network
        return values.reshape(*(1,) * (len(node.shape) - len(shape)), *shape)

    def describe(self) -> str:
        return "learned in training"
