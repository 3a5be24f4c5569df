"""Operators of torch that stay analogue at the user's request."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from transpike.core.call import Refused, Wire
from transpike.core.op import Captured, Op, Shape, Shapes
from transpike.errors import FileError
from transpike.ops._parts import apart, parts
from transpike.ops.arithmetic import Arithmetic, arithmetic

PREDICATES = ("condition", "mask")
"""Arguments of torch's operators that are Boolean values."""
INDICES = ("index", "indices")
"""Arguments of torch's operators that are integers."""


@dataclass(frozen=True, eq=False)
class AnalogueOp(Op):
    """An operator of torch, run unchanged: ``operator`` like "aten.silu.default".

    ``arguments`` and ``options`` are its positional and keyword arguments; ("input", i) and ("constant", i) represent
    tensors, the latter stored in ``constants``. Wires carry real numbers, so that comparisons give 1 and 0, which
    selections read. Raises FileError for operators that change their input.
    """

    operator: str = ""
    arguments: tuple = ()
    options: tuple = ()
    constants: tuple = ()

    def __post_init__(self) -> None:
        if resolve(self.operator)._schema.is_mutable:
            raise FileError(f"{self.operator} changes its input; only pure operators can be kept")

    @classmethod
    def of(cls, operator: str, args: tuple, kwargs: dict) -> Captured:
        """The op for a call with these arguments. Raises Refused for arguments that cannot be stored."""
        wires: list[Wire] = []
        constants: list[Tensor] = []

        def keep(value: Any) -> Any:
            if isinstance(value, Wire):
                wires.append(value)
                return ("input", len(wires) - 1)
            if isinstance(value, Tensor):
                constants.append(value.detach())
                return ("constant", len(constants) - 1)
            if isinstance(value, (list, tuple)):
                return tuple(keep(v) for v in value)
            if value is None or isinstance(value, (bool, int, float, str)):
                return value
            raise Refused(f"its argument {value!r} cannot be stored")

        arguments, options = keep(args), tuple((name, keep(value)) for name, value in kwargs.items())
        name, _, overload = operator.removeprefix("aten.").partition(".")
        pure = name if name.endswith("__") else name.removesuffix("_")  # relu_ changes its input, __and__ does not
        pure = f"aten.{pure}.{overload}"
        return cls(operator=pure, arguments=arguments, options=options, constants=tuple(constants)), tuple(wires)

    def tensors(self) -> dict[str, Tensor]:
        return {f"constant{index}": value for index, value in enumerate(self.constants)}

    def with_tensors(self, **tensors: Tensor) -> Self:
        own = self.tensors() | tensors
        return replace(self, constants=tuple(own[f"constant{index}"] for index in range(len(self.constants))))

    def run(self, *inputs: Tensor) -> Tensor:
        like = inputs[0]
        constants = [
            c.to(like.dtype) if c.is_floating_point() and like.is_floating_point() else c for c in self.constants
        ]

        def value(a: Any) -> Any:
            if isinstance(a, tuple) and len(a) == 2 and a[0] in ("input", "constant"):
                return inputs[a[1]] if a[0] == "input" else constants[a[1]]
            return [value(v) for v in a] if isinstance(a, tuple) else a

        operator = resolve(self.operator)
        arguments = [
            _read_as(known.name, value(a)) for a, known in zip(self.arguments, operator._schema.arguments, strict=False)
        ]
        output = operator(*arguments, **{name: value(v) for name, v in self.options})
        if output.dtype != torch.bool:
            return output
        return output.to(like.dtype if like.is_floating_point() else torch.get_default_dtype())

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        return self._arithmetic(inputs).multiplications

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        return self._arithmetic(inputs).evaluations

    def _arithmetic(self, inputs: Shapes) -> Arithmetic:
        op = self.to(device="meta")
        return arithmetic(op.run, inputs)

    def parts(self, *changed: Tensor) -> Tensor:
        return parts(self.operator, self.arguments, changed)

    def apart(self, *shapes: Shape) -> int:
        return apart(self.operator, self.arguments, shapes)

    def describe(self) -> str:
        return f"{self.operator.split('.')[1]} (analogue)"


def _read_as(argument: str, value: Any) -> Any:
    """The Boolean values, or the integers of an index, that the real numbers of a wire represent."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value > 0.5 if argument in PREDICATES else value.round().long() if argument in INDICES else value


def resolve(operator: str) -> "torch._ops.OpOverload":
    """The torch operator of this name, from the ``aten`` namespace only. Raises FileError if there is none."""
    namespace, _, rest = operator.partition(".")
    name, _, overload = rest.partition(".")
    try:
        if namespace != "aten" or not name.isidentifier():
            raise AttributeError(operator)
        return getattr(getattr(torch.ops.aten, name), overload or "default")
    except AttributeError:
        raise FileError(f"there is no operator named {operator!r} in this version of torch") from None
