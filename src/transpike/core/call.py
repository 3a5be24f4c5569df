"""One operator call of an exported program, as passed to ``Op.capture``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


class Refused(Exception):
    """An op cannot represent this call; the text gives the reason."""


@dataclass(frozen=True)
class Layout:
    """Where a tensor of torch has its batch: its ``axis`` is (outer, batch, inner) in row-major order.

    A graph holds the same values with the batch first: (batch, axes before, outer, inner, axes after), in which
    ``outer`` and ``inner`` are left out where they are 1.
    """

    axis: int = 0
    outer: int = 1
    inner: int = 1

    @property
    def parts(self) -> tuple[int, ...]:
        """What is folded into the axis of the batch."""
        return tuple(size for size in (self.outer, self.inner) if size > 1)

    @property
    def folded(self) -> int:
        """The size of the axis for a batch of 1."""
        return self.outer * self.inner

    def held(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The shape in a graph, without the batch, for torch's ``sizes``."""
        return (*sizes[: self.axis], *self.parts, *sizes[self.axis + 1 :])

    def __str__(self) -> str:
        along = f" together with {self.folded} parts of each sample" if self.parts else ""
        return f"the batch is on axis {self.axis}{along}"


@dataclass(frozen=True)
class Wire:
    """A value that depends on the network's input: the node that computes it, and its shape without the batch.

    ``multiple``: the wire that it is a constant multiple of, and the layer that multiplies. ``layout``: how torch has
    the value; ``Op.capture`` gets wires that have the batch first in torch too.
    """

    name: str
    shape: tuple[int, ...]
    multiple: "tuple[Wire, Any] | None" = field(default=None, compare=False, repr=False)
    layout: Layout = Layout()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Torch's shape for a batch of 1."""
        axis, behind = self.layout.axis, self.layout.axis + len(self.layout.parts)
        return (*self.shape[:axis], self.layout.folded, *self.shape[behind:])


@dataclass(frozen=True)
class Comparison:
    """``wire > bound`` and its like, element by element; ``relation`` is gt, ge, lt or le.

    No neuron computes a comparison. An activation that is written with one reads it ("where(x > 0, x, 0)").
    """

    wire: Wire
    relation: str
    bound: float


@dataclass(frozen=True, eq=False)
class Call:
    """``operator`` like "conv2d.default"; ``arguments`` by schema name with defaults filled in.

    Tensors among the arguments are constants, wires are not. ``shapes``: shapes of the outputs without the batch.
    """

    operator: str
    arguments: dict[str, Any] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def wire(self, name: str) -> Wire:
        """The argument ``name``, which must depend on the input. Raises Refused otherwise."""
        value = self.arguments[name]
        if not isinstance(value, Wire):
            raise Refused(f"its argument {name!r} does not depend on the network's input")
        return value

    def constant(self, name: str) -> Tensor | None:
        """The argument ``name``, which must be a weight or a constant. Raises Refused otherwise."""
        value = self.arguments.get(name)
        if isinstance(value, Wire):
            raise Refused(f"its argument {name!r} depends on the network's input (a product of two activations)")
        return value

    def numbers(self, name: str, count: int) -> tuple[int, ...]:
        """A list of ``count`` integers; a single value is repeated, as in torch."""
        value = self.arguments[name]
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        return values * count if len(values) == 1 else values

    def axis(self, name: str, rank: int) -> int:
        """The argument ``name`` as an axis of a tensor with ``rank`` axes, from 1; Refused for the batch axis."""
        axis = self.arguments[name] % rank
        if axis == 0:
            raise Refused("it works across the batch axis")
        return axis
