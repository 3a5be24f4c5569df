"""Where float32 adds exactly although the run needs float64."""

from torch import Tensor

from transpike.core.op import Op


class Narrow:
    def linear(self, name: str, op: Op, inputs: list[Tensor]) -> Tensor:
        return op.linear(*(value.double() for value in inputs))
