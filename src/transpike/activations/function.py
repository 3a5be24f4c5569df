"""Functions of one value that a neuron with a real-valued source can represent."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.op import Op, Role, Shape, Shapes
from transpike.ops.analogue import AnalogueOp

FUNCTIONS = frozenset((
    "gelu", "silu", "mish", "leaky_relu", "prelu", "_prelu_kernel", "elu", "selu", "celu", "softplus", "hardswish",
    "hardsigmoid", "sigmoid", "tanh", "hardtanh", "threshold", "clamp", "log_sigmoid", "softshrink", "hardshrink",
))  # fmt: skip
"""The operators of torch, without overload, that are functions of one value, with constant parameters at most."""


@dataclass(frozen=True, eq=False)
class Function(AnalogueOp):
    """A function of each single value, by its operator of torch, which a sigma-delta neuron replaces.

    Passes make it from the analogue operator; see ``of_analogue``.
    """

    role: ClassVar[Role] = "activation"

    @classmethod
    def of_analogue(cls, op: Op) -> "Function | None":
        """The same operator as an activation; None if it is not a function of one value."""
        if type(op) is not AnalogueOp or op.operator.split(".")[1] not in FUNCTIONS:
            return None
        wires = [a for a in (*op.arguments, *dict(op.options).values()) if isinstance(a, tuple) and a[:1] == ("input",)]
        return cls(op.operator, op.arguments, op.options, op.constants) if len(wires) == 1 else None

    @property
    def is_function(self) -> bool:
        return True

    def describe(self) -> str:
        return self.operator.split(".")[1]


@dataclass(frozen=True, eq=False)
class Unchanged(Op):
    """The identity: a neuron that replaces it only encodes a wire as spikes."""

    role: ClassVar[Role] = "activation"
    is_sum: ClassVar[bool] = True

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def macs(self, inputs: Shapes, output: Shape) -> int:
        return 0

    @property
    def is_function(self) -> bool:
        return True
