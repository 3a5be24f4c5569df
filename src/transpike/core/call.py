"""One operator call of an exported program, as passed to ``Op.capture``."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


class Refused(Exception):
    """An op cannot represent this call; the text gives the reason."""


@dataclass(frozen=True)
class Wire:
    """A value that depends on the network's input: the node that computes it, and its shape without the batch.

    ``multiple``: the wire that it is a constant multiple of, and the layer that multiplies.
    """

    name: str
    shape: tuple[int, ...]
    multiple: "tuple[Wire, Any] | None" = field(default=None, compare=False, repr=False)


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
