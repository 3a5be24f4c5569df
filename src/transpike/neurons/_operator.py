"""Base of cells that keep an analogue operator between layers that spike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.cell import Cell
from transpike.core.finite import finite
from transpike.core.op import Op, Shape, Shapes


@dataclass(frozen=True, eq=False)
class OperatorCell(Cell):
    """Evaluates ``op`` once in each step: its tensors, axes, multiplications and evaluations are those of ``op``.

    Its messages are real numbers, which reports list as analogue.
    """

    alphabet: ClassVar[Alphabet] = GRADED
    op: Op

    @property
    def hides_by_sample(self) -> bool:
        return self.op.hides_by_sample

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return self.op.channel_axis_after(axes, shapes, shape)

    def tensors(self) -> dict[str, Tensor]:
        return self.op.tensors()

    def with_tensors(self, **tensors: Tensor) -> Self:
        return replace(self, op=self.op.with_tensors(**tensors))

    def value(self, *inputs: Tensor) -> Tensor:
        """The operator's output. Raises NotFinite for NaN and infinite values."""
        return finite(self.op.run(*inputs), self.op)

    def parts(self, *changed: Tensor) -> Tensor:
        return self.op.parts(*changed)

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        return self.op.macs(inputs, output)

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        return self.op.evaluations(inputs, output)
