"""The outputs of a network side by side, as one."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from transpike.core.op import Op, Role, Shape
from transpike.core.structure import Structure, packed


@dataclass(frozen=True, eq=False)
class Pack(Op):
    """The last layer of a network with several outputs: (batch, *shape) each → (batch, N), with their ``structure``.

    One run then gives all of them, and readouts, engines and traces see one output. It takes currents, no levels: the
    outputs of neurons enter it through a separate synapse.
    """

    role: ClassVar[Role] = "wiring"
    channel_axis: ClassVar[int] = 1
    structure: Structure = field(default_factory=lambda: Structure(("0",), ((1,),)))

    @classmethod
    def example(cls) -> tuple["Pack", tuple[Shape, ...]]:
        return cls(Structure(("map", "number"), ((2, 3), (1,)))), ((2, 3), (1,))

    def run(self, *inputs: Tensor) -> Tensor:
        return packed(inputs)

    def describe(self) -> str:
        return f"outputs {', '.join(self.structure.names)}"


def structure_of(op: object) -> Structure | None:
    """The structure of the outputs of a network with this last layer; None if it has one."""
    return op.structure if isinstance(op, Pack) else None
