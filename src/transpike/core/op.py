"""What one layer without memory says about itself."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union

import torch
from torch import Tensor

from transpike.core.call import Call, Wire
from transpike.core.channels import rows
from transpike.core.tensor_fields import TensorFields
from transpike.errors import SettingError, UnsupportedModel

Captured = Union["tuple[Op, tuple[Wire, ...]]", "list[tuple[Op, tuple[Wire, ...]]]"]
Role = Literal["synapse", "wiring", "analogue", "activation"]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]


@dataclass(frozen=True, eq=False)
class Op(TensorFields):
    """One layer: a pure function of tensors that carries its own weights and knows nothing of time.

    ``role``: a *synapse* is affine and has weights; *wiring* is linear without weights (reshape, add, average
    pooling); an *activation* is what a neuron replaces; everything else is *analogue*.
    Shapes: inputs and output are (batch, *shape). Tensors are compared by identity.
    """

    behaviour: ClassVar[tuple[str, ...]] = ("run", "linear")
    claims: ClassVar[tuple[str, ...]] = (
        "linear", "propagate_levels", "absorb", "scale_outputs", "paths", "magnitude", "rounded", "per_output", "per_input",
        "total", "macs", "without_quantisation", "is_whole", "is_sum", "rectifies",
    )  # fmt: skip
    free: ClassVar[tuple[str, ...]] = (
        "describe", "capture", "train_run", "is_linear", "tensors", "with_tensors", "to", "withdraw", "evaluations",
        "example",
    )  # fmt: skip
    role: ClassVar[Role] = "analogue"
    aten: ClassVar[tuple[str, ...]] = ()
    is_sum: ClassVar[bool] = False
    """True where every output element is a weighted sum of the inputs' elements at the same place."""
    buffers: ClassVar[tuple[str, ...]] = ()
    """Fields that training updates without a gradient."""

    @classmethod
    def withdraw(cls, name: str, parent: type) -> None:
        """Of an altered op nothing but ``run`` is known: what a linear layer must tell raises UnsupportedModel."""
        if name == "macs":
            cls.macs = _unpriced  # type: ignore[method-assign]
        elif name == "without_quantisation":
            cls.without_quantisation = Op.without_quantisation  # type: ignore[method-assign]
        elif name in ("is_whole", "is_sum", "rectifies"):
            setattr(cls, name, False)
        elif cls.role in ("synapse", "wiring"):
            setattr(cls, name, _withdrawn(cls, name, parent))

    @classmethod
    def capture(cls, call: Call) -> "Captured":
        """The op that stands for this call, and the wires it reads; a list where the call has several outputs.

        Raises core.call.Refused with the reason where the call's arguments are outside what the op can do.
        """
        return cls(), (call.wire(next(iter(call.arguments))),)

    def run(self, *inputs: Tensor) -> Tensor:
        """The layer's answer, bias included."""
        raise TypeError(f"{type(self).__name__} must define run()")

    def linear(self, *inputs: Tensor) -> Tensor:
        """The layer without its bias; only synapses and wiring have it. In time, the schedule adds the bias."""
        if self.role == "wiring":
            return self.run(*inputs)
        raise TypeError(f"{type(self).__name__} is not linear")

    def train_run(self, *inputs: Tensor) -> Tensor:
        """What the layer does while training; batch normalisation and dropout differ from ``run``."""
        return self.run(*inputs)

    def without_quantisation(self) -> "Op":
        """The op without jumps: what a staircase rounds. Exact steps are checked on it."""
        return self

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> "tuple[Op, Tensor | None] | None":
        """How levels pass: (the op that takes levels, the worth of one output level); None: it needs real values.

        ``spike_scales`` are the amplitudes of the inputs, (1, *shape) each; NaN marks places where no spike ever comes.
        The returned worth is None where the output is a current.
        """
        return None

    def paths(self) -> "Op":
        """The same wiring with every non-zero weight set to one: its gradient counts paths."""
        return self

    def magnitude(self) -> "Op":
        """The same wiring with absolute weights: it bounds what ``linear`` can give."""
        return self

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        """Multiplications of one forward pass of one sample; the shapes are without the batch.

        Zero padding is included, as is the custom. Wiring has none: an average is a sum, whose division the next
        weights can hold, and a resampling counts as the average that it is or stands for. Activations that compare
        have none either. None where nobody knows: energy models then name the layer as left out.
        """
        return 0 if self.role == "wiring" else None

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        """How often one sample's pass evaluates what is no multiplication, by function: {"exp": 64}."""
        return {}

    @property
    def is_whole(self) -> bool:
        """False for wiring that multiplies by fractions which are not tensors, so that no grid carries it."""
        return True

    @property
    def rectifies(self) -> bool:
        """True for an activation that is ``max(z, 0)``, cut off or in levels: what the rate of a neuron can be."""
        return False

    @property
    def is_linear(self) -> bool:
        return self.role in ("synapse", "wiring")

    def describe(self) -> str:
        """The op and its settings in a few words, for the line that prints it."""
        return type(self).__name__.lower()


def _unpriced(self: Op, inputs: Shapes, output: Shape) -> int | None:
    return None


def _withdrawn(cls: type[Op], name: str, parent: type) -> Any:
    changed = " and ".join(f"{one}()" for one in cls.altered)

    def refuse(self: Op, *arguments: Any, **options: Any) -> Any:
        raise UnsupportedModel(
            f"{cls.__name__} overrides {changed} of {parent.__name__}, so that {name}() of that class says nothing "
            f"about it: define {name}() in {cls.__name__} too ({name} = {parent.__name__}.{name} where it still holds)"
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
        """The synapse that answers to levels as this one answers to ``levels · amplitude``; None if there is none.

        ``spike_scale`` has the shape of the input with batch 1; NaN marks places where no spike ever comes.
        """
        raise TypeError(f"{type(self).__name__} must define absorb()")

    def scale_outputs(self, factor: Tensor) -> "Synapse":
        """The synapse whose output channels (weights and bias) are multiplied by ``factor``, one value a channel."""
        raise TypeError(f"{type(self).__name__} must define scale_outputs()")

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> tuple[Op, Tensor | None] | None:
        absorbed = self.absorb(spike_scales[0])
        return None if absorbed is None else (absorbed, None)

    def paths(self) -> "Synapse":
        return dataclasses.replace(self, weight=(self.weight != 0).to(self.weight.dtype), bias=None)

    def magnitude(self) -> "Synapse":
        return dataclasses.replace(self, weight=self.weight.abs(), bias=None)

    def rounded(self, step: Tensor) -> "Synapse":
        """Weights on multiples of ``step``, which broadcasts to the weight."""
        return dataclasses.replace(self, weight=torch.round(self.weight / step) * step)

    def per_output(self, value: Tensor) -> Tensor:
        """``value`` (one an output channel) shaped to multiply the weight."""
        raise TypeError(f"{type(self).__name__} must define per_output()")

    def per_input(self, value: Tensor) -> Tensor:
        """``value`` (one an input channel) shaped to multiply the weight."""
        raise TypeError(f"{type(self).__name__} must define per_input()")


def spatially_uniform(spike_scale: Tensor, axis: int = 1) -> Tensor | None:
    """One value a channel of ``spike_scale`` (1, *shape), or None where a channel (``axis``) holds different values.

    NaN (no spike ever comes) agrees with everything; a channel of nothing else gets 1.
    """
    flat = rows(spike_scale, axis)
    low = torch.nan_to_num(flat, nan=torch.inf).amin(1)
    high = torch.nan_to_num(flat, nan=-torch.inf).amax(1)
    silent = torch.isinf(low) & torch.isinf(high)
    low, high = torch.where(silent, 1.0, low), torch.where(silent, 1.0, high)
    return low if bool((low == high).all()) else None


def check_finite(where: str, **tensors: Tensor | None) -> None:
    """Raise a SettingError that names the tensor which holds NaN or infinite values."""
    for name, value in tensors.items():
        if value is not None and value.device.type != "meta" and not bool(torch.isfinite(value).all()):
            raise SettingError(f"{where}: {name} holds NaN or infinite values; train or load the network again")
