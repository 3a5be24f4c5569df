"""Base of neurons that follow a function of their estimate."""

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from transpike.codes.time_code import TimeCode
from transpike.core.op import Op, Shape, Shapes
from transpike.neurons._threshold import ThresholdNeuron


@dataclass(frozen=True, eq=False)
class FunctionNeuron(ThresholdNeuron):
    """A neuron that evaluates ``source``, whose tensors are its own, in every step."""

    @classmethod
    def stands_for(cls, activation: Op) -> bool | str:
        """Any function of one value; not the slots of first spikes."""
        if isinstance(getattr(activation, "code", None), TimeCode):
            return "its levels are the slots of first spikes: use the recipe cat"
        if activation.is_function:
            return True
        return f"{type(activation).__name__} is not declared as a function of each single value (is_function = True)"

    @property
    def evaluates(self) -> bool:
        """False for a neuron that does without the value of its source."""
        return True

    def tensors(self) -> dict[str, Tensor]:
        inner = self.source.tensors() if self.evaluates else {}
        return super().tensors() | {f"source.{name}": value for name, value in inner.items()}

    def with_tensors(self, **tensors: Tensor) -> Self:
        inner = {name.removeprefix("source."): v for name, v in tensors.items() if name.startswith("source.")}
        own = {name: value for name, value in tensors.items() if not name.startswith("source.")}
        changed = super().with_tensors(**own)
        return replace(changed, source=self.source.with_tensors(**inner)) if inner else changed

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        return self.source.macs(inputs, output) if self.evaluates else 0

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        return self.source.evaluations(inputs, output) if self.evaluates else {}

    def parts(self, *changed: Tensor) -> Tensor:
        return self.source.parts(*changed)
