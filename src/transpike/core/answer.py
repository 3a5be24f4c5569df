"""The functions after the last layer: softmax, sigmoid and the like, computed once on the accumulated answer."""

from dataclasses import dataclass, replace

from torch import Tensor

from transpike.core.graph import Graph
from transpike.core.op import Op
from transpike.core.pass_ import Context
from transpike.core.readout import Readout


@dataclass(frozen=True, eq=False)
class FunctionOfAnswer(Readout):
    """``logits(t) = f(logits of the readout inside)``: the last functions of the source network, in order.

    They are computed once for each answer, from the accumulated one and not from the current of one step. Functions
    that are not a chain, like those of several outputs, are a separate ``network``.
    """

    inside: Readout
    functions: tuple[Op, ...] = ()
    network: Graph | None = None

    @property
    def spiking_output(self) -> bool:  # type: ignore[override]
        return self.inside.spiking_output

    @property
    def every_step(self) -> bool:  # type: ignore[override]
        return self.inside.every_step

    @property
    def delay(self) -> int | None:
        """That of the readout inside, if it has one."""
        return getattr(self.inside, "delay", None)

    def calibrated(self, graph: Graph, context: Context) -> "FunctionOfAnswer":
        return replace(self, inside=self.inside.calibrated(graph, context))

    def init(self, output: Tensor) -> Tensor:
        return self.inside.init(output)

    def update(self, state: Tensor, output: Tensor, t: int) -> Tensor:
        return self.inside.update(state, output, t)

    def logits(self, state: Tensor, t: int) -> Tensor:
        return self.functions_of(self.inside.logits(state, t))

    def functions_of(self, answer: Tensor) -> Tensor:
        """The functions of an accumulated answer."""
        for function in self.functions:
            answer = function.run(answer)
        return answer if self.network is None else self.network.to(device=answer.device, dtype=answer.dtype).run(answer)


@dataclass(frozen=True, eq=False)
class AnalogueRest(FunctionOfAnswer):
    """The analogue part of a hybrid network, after its spiking part: ``network`` of the accumulated answer.

    The layers of the source network that do not spike, in float64, computed once for each answer. Their inputs are what
    the readout inside makes of the spikes that cross the boundary: rate times scale, or the sum of differences.
    """
