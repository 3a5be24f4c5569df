"""Contract of layers without memory."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union

import torch
from torch import Tensor

from transpike.core.call import Call, Wire
from transpike.core.channels import rows
from transpike.core.tensor_fields import TensorFields
from transpike.errors import SettingError, UnsupportedModel

Part = Union[Wire, "tuple[Op, tuple[Part, ...]]"]
"""A wire, or an op and what it reads: a call of torch may need several ops."""
Captured = Union["tuple[Op, tuple[Part, ...]]", "list[tuple[Op, tuple[Part, ...]]]"]
Role = Literal["synapse", "wiring", "analogue", "activation", "product"]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]


@dataclass(frozen=True, eq=False)
class Op(TensorFields):
    """One layer: a pure function of tensors that holds its weights and has no notion of time.

    ``role``: a *synapse* is affine and has weights; *wiring* is linear without weights (reshape, add, average
    pooling); an *activation* is replaced by a neuron; a *product* is linear in each of two wires; everything else is
    *analogue*.
    Shapes: inputs and output are (batch, *shape). Tensors are compared by identity.
    """

    behaviour: ClassVar[tuple[str, ...]] = ("run", "linear")
    claims: ClassVar[tuple[str, ...]] = (
        "linear", "propagate_levels", "absorb", "scale_outputs", "paths", "magnitude", "rounded", "per_output",
        "per_input", "total", "macs", "without_quantisation", "is_whole", "is_sum", "rectifies",
        "is_function", "is_look_up", "apart",
    )  # fmt: skip
    free: ClassVar[tuple[str, ...]] = (
        "describe", "capture", "train_run", "is_linear", "tensors", "with_tensors", "to", "withdraw", "evaluations",
        "example", "parts", "hides_by_sample",
    )  # fmt: skip
    role: ClassVar[Role] = "analogue"
    aten: ClassVar[tuple[str, ...]] = ()
    is_sum: ClassVar[bool] = False
    """True if every output element is a weighted sum of the inputs' elements at the same position."""
    is_look_up: ClassVar[bool] = False
    """True if it reads an input of integers, so that its output is a constant current."""
    buffers: ClassVar[tuple[str, ...]] = ()
    """Tensor fields that training updates without a gradient."""

    @classmethod
    def withdraw(cls, name: str, parent: type) -> None:
        """An altered op is defined by ``run`` alone: the other methods of a linear layer raise UnsupportedModel."""
        if name == "macs":
            cls.macs = _unpriced  # type: ignore[method-assign]
        elif name in ("without_quantisation", "apart"):
            setattr(cls, name, getattr(Op, name))
        elif name in ("is_whole", "is_sum", "rectifies", "is_function", "is_look_up"):
            setattr(cls, name, False)
        elif cls.role in ("synapse", "wiring"):
            setattr(cls, name, _withdrawn(cls, name, parent))

    @classmethod
    def capture(cls, call: Call) -> "Captured":
        """The op for this call, and what it reads: wires, or other ops with what they read in turn.

        A list for a call with several outputs. Inner ops become separate layers, before the op that reads them.

        Raises core.call.Refused with the reason if the op does not support the call's arguments.
        """
        return cls(), (call.wire(next(iter(call.arguments))),)

    def run(self, *inputs: Tensor) -> Tensor:
        """The output of the layer, bias included."""
        raise TypeError(f"{type(self).__name__} must define run()")

    def linear(self, *inputs: Tensor) -> Tensor:
        """The output without the bias, for synapses and wiring only. In time, the schedule adds the bias."""
        if self.role == "wiring":
            return self.run(*inputs)
        raise TypeError(f"{type(self).__name__} is not linear")

    def train_run(self, *inputs: Tensor) -> Tensor:
        """The output during training; it differs from ``run`` for batch normalisation and dropout."""
        return self.run(*inputs)

    def without_quantisation(self) -> "Op":
        """The op without quantisation: the function that a staircase rounds. Exact passes are checked on it."""
        return self

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> "tuple[Op, Tensor | None] | None":
        """How levels propagate: (op for levels, spike scale of the output); None if the op needs real values.

        ``spike_scales`` are those of the inputs, (1, *shape) each; NaN marks elements that never send a spike.
        The returned spike scale is None if the output is a current.
        """
        return None

    def paths(self) -> "Op":
        """The same connectivity with every non-zero weight set to one; its gradient counts paths."""
        return self

    def magnitude(self) -> "Op":
        """The same connectivity with absolute weights; it bounds the result of ``linear``."""
        return self

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        """Multiplications of one forward pass of one sample; the shapes are without the batch.

        Zero padding is included, as is customary. Wiring has none: an average is a sum whose division is folded into
        the next weights, and a resampling counts as an average. Activations that only compare have none either. None
        if the number is unknown; energy models then list the layer as left out.
        """
        return 0 if self.role == "wiring" else None

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        """The number of function evaluations other than multiplications per sample: {"exp": 64}."""
        return {}

    def parts(self, *changed: Tensor) -> Tensor:
        """(batch, parts): which of the parts that are computed apart read a changed input, (batch, *shape) each.

        A row of a normalisation is one part; by default everything is.
        """
        return torch.stack([one.flatten(1).any(1) for one in changed]).any(0)[:, None]

    def apart(self, *shapes: Shape) -> int:
        """The number of leading axes, batch included, along which nothing is combined: 1 by default.

        These axes of all inputs and of the output have equal sizes, and the places on them may be computed in any
        selection: (n, 1 …, *rest), with as many axes as before. ``shapes`` are those of the inputs without the batch.
        """
        return 1

    @property
    def is_whole(self) -> bool:
        """False for wiring with fractional coefficients that are not tensors, which cannot be put on a grid."""
        return True

    @property
    def hides_by_sample(self) -> bool:
        """True if its last input is a mask: Boolean values that hide parts of each sample, which are not computed."""
        return False

    @property
    def rectifies(self) -> bool:
        """True for ``max(z, 0)``, clipped or quantised: the functions that a firing rate can represent."""
        return False

    @property
    def is_function(self) -> bool:
        """True for an activation that is a function of each single value, which a sigma-delta neuron can encode."""
        return self.rectifies

    @property
    def is_linear(self) -> bool:
        return self.role in ("synapse", "wiring")

    def describe(self) -> str:
        """A short text with the op and its settings, for tables."""
        return type(self).__name__.lower()


def _unpriced(self: Op, inputs: Shapes, output: Shape) -> int | None:
    return None


def _withdrawn(cls: type[Op], name: str, parent: type) -> Any:
    changed = " and ".join(f"{one}()" for one in cls.altered)

    def refuse(self: Op, *arguments: Any, **options: Any) -> Any:
        raise UnsupportedModel(
            f"{cls.__name__} overrides {changed} of {parent.__name__}, so {parent.__name__}.{name}() may not hold for "
            f"it: define {name}() in {cls.__name__} too ({name} = {parent.__name__}.{name} if it still holds)"
        )

    return refuse


@dataclass(frozen=True, eq=False)
class Synapse(Op):
    """An affine op: ``run(x) = linear(x) + bias``.

    ``channel_axis`` is the axis of inputs and outputs that the weights mix, the batch being axis 0.
    """

    role: ClassVar[Role] = "synapse"
    channel_axis: ClassVar[int] = 1
    weight: Tensor
    bias: Tensor | None = None

    def absorb(self, spike_scale: Tensor) -> "Synapse | None":
        """The synapse that maps levels to what this one maps ``levels · spike_scale`` to; None if there is none.

        ``spike_scale`` has the shape of the input with batch 1; NaN marks elements that never send a spike.
        """
        raise TypeError(f"{type(self).__name__} must define absorb()")

    def scale_outputs(self, factor: Tensor) -> "Synapse":
        """The synapse with its output channels (weights and bias) multiplied by ``factor``, one value per channel."""
        raise TypeError(f"{type(self).__name__} must define scale_outputs()")

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> tuple[Op, Tensor | None] | None:
        absorbed = self.absorb(spike_scales[0])
        return None if absorbed is None else (absorbed, None)

    def paths(self) -> "Synapse":
        return dataclasses.replace(self, weight=(self.weight != 0).to(self.weight.dtype), bias=None)

    def magnitude(self) -> "Synapse":
        return dataclasses.replace(self, weight=self.weight.abs(), bias=None)

    def rounded(self, step: Tensor) -> "Synapse":
        """The synapse with weights rounded to multiples of ``step``, which broadcasts to the weight."""
        return dataclasses.replace(self, weight=torch.round(self.weight / step) * step)

    def per_output(self, value: Tensor) -> Tensor:
        """``value`` (one per output channel) in a shape that multiplies the weight."""
        raise TypeError(f"{type(self).__name__} must define per_output()")

    def per_input(self, value: Tensor) -> Tensor:
        """``value`` (one per input channel) in a shape that multiplies the weight."""
        raise TypeError(f"{type(self).__name__} must define per_input()")


def spatially_uniform(spike_scale: Tensor, axis: int = 1) -> Tensor | None:
    """One value per channel of ``spike_scale`` (1, *shape), or None if values differ within a channel (``axis``).

    NaN (an element that never sends a spike) matches every value; a channel of NaN only gets 1.
    """
    flat = rows(spike_scale, axis)
    low = torch.nan_to_num(flat, nan=torch.inf).amin(1)
    high = torch.nan_to_num(flat, nan=-torch.inf).amax(1)
    silent = torch.isinf(low) & torch.isinf(high)
    low, high = torch.where(silent, 1.0, low), torch.where(silent, 1.0, high)
    return low if bool((low == high).all()) else None


def check_finite(where: str, **tensors: Tensor | None) -> None:
    """Raises SettingError with the name of the first tensor that contains NaN or infinite values."""
    for name, value in tensors.items():
        if value is not None and value.device.type != "meta" and not bool(torch.isfinite(value).all()):
            raise SettingError(f"{where}: {name} contains NaN or infinite values; train or load the network again")
