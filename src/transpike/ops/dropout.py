"""Dropout."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call
from transpike.core.op import Captured
from transpike.ops.wiring import Selection


@dataclass(frozen=True, eq=False)
class Dropout(Selection):
    """The identity; in training it zeroes elements with ``probability`` and scales the others up."""

    aten: ClassVar[tuple[str, ...]] = (
        "dropout.default",
        "dropout_.default",
        "feature_dropout.default",
        "feature_dropout_.default",
        "native_dropout.default",
        "alpha_dropout.default",
    )
    probability: float = 0.5

    @classmethod
    def capture(cls, call: Call) -> Captured:
        return cls(probability=call["p"]), (call.wire(next(iter(call.arguments))),)  # "self" where in place

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def train_run(self, *inputs: Tensor) -> Tensor:
        return F.dropout(inputs[0], self.probability, training=True)

    def describe(self) -> str:
        return f"dropout {self.probability:g}"
