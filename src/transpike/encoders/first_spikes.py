"""The input as the times of first spikes."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from transpike.codes.first_spike import first_levels
from transpike.codes.time_code import Kernel, Rounding, TimeCode
from transpike.core.alphabet import Alphabet
from transpike.core.encoder import Encoder
from transpike.core.graph import Graph, Input, Node
from transpike.core.plain import is_plain
from transpike.errors import DataError, SettingError
from transpike.ops import Identity


@dataclass(frozen=True)
class FirstSpikes(Encoder):
    """At most one spike per element, in the first slot t with ``x ≥ largest · θ(t)``, θ(t) the slot threshold.

    CAT and T2FSNN encode pixels as neurons encode their potential: larger values fire earlier, and values below the
    last slot's threshold do not fire. Negative inputs raise DataError: normalise within the network, or use an analogue
    input. The settings are those of ``TimeCode``; with ``weighted`` off every spike has scale 1 (S4NN).
    """

    window: int = 24
    tau: float = 4.0
    base: float = 2.0
    delay: float = 0.0
    last: int | None = None
    rounding: Rounding = "down"
    kernel: Kernel = "exponential"
    bits: int | None = None
    weighted: bool = True

    def __post_init__(self) -> None:
        _ = self.code

    @cached_property
    def code(self) -> TimeCode:
        return TimeCode(self.window, self.tau, self.base, self.delay, self.last, self.rounding, self.kernel, self.bits)

    @property
    def alphabet(self) -> Alphabet:  # type: ignore[override]
        return Alphabet("time", int(self.code.levels[0]) if self.weighted else 1)

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        if t > self.code.slots:
            return torch.zeros_like(x)
        reached = self._reached(x, t - 1)
        now = reached & ~self._reached(x, t - 2) if t > 1 else reached
        return now.to(x.dtype) * (float(self.code.levels[t - 1]) if self.weighted else 1.0)

    def counts(self, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        code = self.code.shortened(timesteps)
        levels = first_levels(self._share(x), 1.0, code).to(x)
        return levels if self.weighted else (levels > 0).to(x)

    def suited(self, source: Graph) -> Encoder:
        """The encoder with the range of a φ that the source applies to its input."""
        for node in source:
            if isinstance(getattr(node.op, "code", None), TimeCode) and receives_input(source, node):
                return self.calibrated(float(node.op.threshold.max()))  # type: ignore[union-attr]
        return self

    def check(self, x: Tensor) -> None:
        if float(x.min()) < 0:
            raise DataError(
                f"an input of {float(x.min()):.3g} has no spike time: first spikes encode values of at least 0. Use "
                "inputs "
                "without normalisation (--mean 0 --std 1, or normalise in the network), or leave the input analogue"
            )

    @property
    def spike_scale(self) -> float | None:
        return None if self.largest is None else self.largest * (self.code.spike_scale if self.weighted else 1.0)

    def _reached(self, x: Tensor, slot: int) -> Tensor:
        return self._share(x) >= float(self.code.slot_thresholds[slot])

    def _share(self, x: Tensor) -> Tensor:
        if self.largest is None:
            raise SettingError("the encoder has no range yet: pass largest, or convert with calibration data")
        return x.double() / self.largest


def receives_input(graph: Graph, node: Node) -> bool:
    """True where a layer receives the unchanged input of the network."""
    while len(node.inputs) == 1:
        node = graph[node.inputs[0]]
        if not is_plain(node.op, Identity):
            return isinstance(node.op, Input)
    return False
