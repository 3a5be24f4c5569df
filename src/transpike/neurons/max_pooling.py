"""Maximum pooling in time: five rules, each a cell around the pooling op of the source network."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Gain, Mode
from transpike.neurons.apart import steps_apart, updates
from transpike.neurons.maximum_in_time import MaximumInTime


@dataclass(frozen=True, eq=False)
class LateralInhibition(MaximumInTime):
    """``C += x;  out_t = max(C_t) − max(C_{t−1})`` over each window, C the cumulative input.

    The cumulative output is the maximum of the cumulative inputs at every t, for overlapping windows too. Binary
    inputs give binary outputs. Source: Li and Zeng 2022 (LIPooling), stated here for any window; the published
    subtraction form holds only for windows that do not overlap. With ``period`` C restarts in each phase cycle:
    phase-weighted spikes come highest first, so that the maximum of a cycle's values is also sent in single spikes. Of
    first spikes, whose levels decrease with time, it passes the earliest. ``pre_simulation_steps`` > 0: C restarts
    after this number of steps, as the neurons do.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("steps", "windows", "cycles", "slots")
    period: int = 0
    pre_simulation_steps: int = 0

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(inputs[0]), self.pool.run(torch.zeros_like(inputs[0]))

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        restarts = (
            (t - 1) % self.period == 0
            if self.period
            else bool(self.pre_simulation_steps) and t == self.pre_simulation_steps + 1
        )
        before = self.init(*inputs) if restarts else state
        cumulative = before[0] + inputs[0]
        maximum = self.pool.run(cumulative)
        return (cumulative, maximum), maximum - before[1]

    def window(self, *trains: Tensor) -> Tensor:
        if self.period or self.pre_simulation_steps:
            return super().window(*trains)
        cumulative = trains[0].cumsum(0)
        maximum = self.pool.run(cumulative.flatten(0, 1)).unflatten(0, cumulative.shape[:2])
        return torch.cat([maximum[:1], maximum[1:] - maximum[:-1]])

    def describe(self) -> str:
        return f"{self.pool.describe()}, lateral inhibition"


@dataclass(frozen=True, eq=False)
class CurrentMaximum(MaximumInTime):
    """``out_t = max(x_t)``: the window's largest current in this step, before the neuron (Bu et al. 2025, LTB).

    Equal to the source network for constant currents; with spikes that arrive at different times the maximum of a step
    is at least that of the mean.
    """

    takes_levels: ClassVar[bool] = False

    def init(self, *inputs: Tensor) -> tuple[()]:
        return ()

    def step(self, state: tuple[()], *inputs: Tensor, t: int) -> tuple[tuple[()], Tensor]:
        return (), self.pool.run(inputs[0])

    def describe(self) -> str:
        return f"{self.pool.describe()} of currents"


@dataclass(frozen=True, eq=False)
class GatedMaximum(MaximumInTime):
    """Passes the spikes of the unit with the largest estimate so far (Rueckauer et al. 2017, section 2.2.4).

    The estimate is the count, ``r ← r + x``, or with ``exponential`` ``r ← 1.005 r + 0.995 x`` (in snn_toolbox, fir_max
    and avg_max order units as counts do; exp_max is exponential). Approximate: after a change of the leading unit, its
    earlier spikes are missing, and surplus spikes of the previous one are not removed. ``pre_simulation_steps`` > 0: r
    restarts after this number of steps.
    """

    exponential: bool = False
    pre_simulation_steps: int = 0

    def init(self, *inputs: Tensor) -> Tensor:
        return torch.zeros_like(inputs[0])

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        state = self.init(*inputs) if self.pre_simulation_steps and t == self.pre_simulation_steps + 1 else state
        cumulative = 1.005 * state + 0.995 * inputs[0] if self.exponential else state + inputs[0]
        pool, p = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(self.pool.kernel) - 1], self.pool
        leaders = pool(cumulative, p.kernel, p.stride, p.padding, p.dilation, p.ceil, return_indices=True)[1]
        return cumulative, inputs[0].flatten(2).gather(2, leaders.flatten(2)).reshape(leaders.shape)

    def describe(self) -> str:
        return f"{self.pool.describe()}, gated{' exponentially' if self.exponential else ''}"


@dataclass(frozen=True, eq=False)
class OrMaximum(MaximumInTime):
    """``out_t = max(x_t)`` over the spikes of a window: one spike if any unit fires.

    Sends more than the largest count if units fire in turns; kept for comparison (reference, section 6, rule e).
    """

    def init(self, *inputs: Tensor) -> tuple[()]:
        return ()

    def step(self, state: tuple[()], *inputs: Tensor, t: int) -> tuple[tuple[()], Tensor]:
        return (), self.pool.run(inputs[0])

    def describe(self) -> str:
        return f"{self.pool.describe()}, or"


@dataclass(frozen=True, eq=False)
class MaximumOfEstimates(MaximumInTime):
    """``E += x;  out_t = max(E_t) − max(E_{t−1})`` over each window, for differences with unit gain.

    What the messages add up to is the maximum of the inputs' estimates at every t, for windows that overlap or reach
    into the padding too, and integer levels of one spike scale stay integer levels. Several digits may change at once.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    settles: ClassVar[bool] = True

    @property
    def gain(self) -> Gain:
        return "unit"

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        """A maximum changes by as much as its inputs at most, and falls too."""
        return replace(inputs[0], signed=True) if inputs[0].is_spiking else inputs[0]

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(inputs[0]), self.pool.run(torch.zeros_like(inputs[0]))

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        estimate = state[0] + inputs[0]
        maximum = self.pool.run(estimate)
        return (estimate, maximum), maximum - state[1]

    def scan(self, state: tuple[Tensor, Tensor], *trains: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor, int]:
        """The number of channels that receive any input."""
        (estimate,), maximum, sent = steps_apart(
            self.pool, state[:1], state[1], trains, updates(self.pool.run), everything=False
        )
        return (estimate, maximum), sent, 0

    def describe(self) -> str:
        return f"{self.pool.describe()} of estimates"
