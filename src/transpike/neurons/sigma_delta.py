"""Sigma-delta neurons: spikes correct the receiver's estimate of a function of the neuron's own estimate."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Gain, Mode, State
from transpike.core.finite import finite
from transpike.errors import SettingError
from transpike.neurons._digits import check_threshold_count, nearest_threshold
from transpike.neurons._function import FunctionNeuron

SpikeRule = Literal["one", "all"]
FINE = 2.0**10
"""Parts of a level to which a function of an estimate is rounded, so that every machine decides alike."""
OFF_GRID = 2**0.5 / 4
"""Added to these parts before they are rounded: polynomials, as in hardswish, of values on a grid are often exactly
between two parts, where arithmetic decides. No fraction with a small denominator is near this irrational number.
"""
NEAR = 2.0**-48
"""More than float64's error of a function, relative to its argument and its value."""

TOGETHER = 2**15
"""Neurons that are computed together: their float64 numbers fit into a core's cache."""


@dataclass(frozen=True, eq=False)
class SigmaDelta(FunctionNeuron):
    """``E += x;  s = Q(f(E) + v(0) − R);  R += s`` with any function f = ``source`` of one value, and unit gain.

    x are the received differences and E their sum, the estimate of the neuron's current. R, the sum of the sent
    spikes, is what the next layers know of f(E). Thresholds are ``θ, 2 θ … 2^{n−1} θ``, n = ``threshold_count``;
    ``threshold`` θ is one level. Q by ``rule``:

    - "one": one spike of either sign, the highest threshold with ``|v| ≥ ¾ 2^i θ``, v = f(E) + v(0) − R
    - "all": such spikes one after the other in the same step, from the highest threshold down: a burst of signed
      binary digits, which at T = 1 is a quantised activation

    For a constant E, |v| is at most ``max(¾ θ, 3^−t |f(E)|)`` after t steps if ``|f(E)| ≤ 1.5 · 2^{n−1} θ``, and the
    neuron is then silent. The largest threshold limits how fast R follows, not its value. f(E) is rounded to 1/1024 of
    a level, with an offset, which makes the rest of the arithmetic exact. Shapes as IntegrateAndFire.
    Source: Yoon 2016 (TNNLS), sigma-delta modulation by neurons, **from memory**; rule by Huang et al. 2025 (DCGS).

    >>> from transpike.activations import ReLU
    >>> cell = SigmaDelta(ReLU(), torch.tensor(0.25), torch.tensor(0.0), threshold_count=3)
    >>> cell.window(torch.tensor([[1.25], [0.0], [-0.5], [0.0]])).flatten().tolist()
    [4.0, 1.0, -2.0, 0.0]
    """

    alphabet: ClassVar[Alphabet] = Alphabet("bits", 128, signed=True)
    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    settles: ClassVar[bool] = True
    threshold_count: int = 8
    rule: SpikeRule = "one"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold_count(self.threshold_count)
        if self.rule not in get_args(SpikeRule):
            raise SettingError(f"rule must be one of {', '.join(get_args(SpikeRule))}, not {self.rule!r}")

    @property
    def gain(self) -> Gain:
        return "unit"

    @property
    def most(self) -> int:
        """The largest level of one step."""
        return 2 ** (self.threshold_count - 1) if self.rule == "one" else 2**self.threshold_count - 1

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("bits", self.most, signed=True)

    def init(self, *inputs: Tensor) -> State:
        return torch.zeros_like(inputs[0]), torch.zeros_like(inputs[0])

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        estimate = state[0] + inputs[0]
        left = self._value(estimate).round_().div_(FINE).sub_(state[1])
        levels = self._digits(left)
        return (estimate, state[1] + levels), levels

    def _digits(self, left: Tensor) -> Tensor:
        """Q of what the receivers do not know yet, in levels."""
        levels = nearest_threshold(left, self.threshold_count)
        if self.rule == "all":
            for count in range(self.threshold_count - 1, 0, -1):  # each digit is smaller than the one before
                levels = levels + nearest_threshold(left - levels, count)
        return levels

    def scan(self, state: State, *trains: Tensor, t: int) -> tuple[State, Tensor, int]:
        """A few rows at a time, all steps of them, so that what is computed stays in the cache. Levels are float32."""
        train, (estimate, sent) = trains[0], (part.clone() for part in state)
        levels, unclear = torch.empty_like(train, dtype=torch.float32), 0
        for part in self._parts(train[0]):
            now, known = estimate[part], sent[part]
            for k in range(len(train)):
                now += train[k][part]
                value = self._value(now)
                unclear += self._unclear(now, value)
                output = self._digits(value.round_().div_(FINE).sub_(known))
                known += output
                levels[k][part] = output
        return (estimate, sent), levels, unclear

    def _parts(self, like: Tensor) -> list[tuple[Any, ...]]:
        """Rows of images, or everything if it is small or if neurons of one channel differ."""
        values = (self.threshold, self.initial, *self.source.tensors().values())
        if like.ndim != 4 or any(value.ndim > 1 and value.shape[-2] > 1 for value in values):
            return [(...,)]
        rows = max(1, TOGETHER * like.shape[2] // max(1, like.numel()))
        return [(..., slice(start, start + rows), slice(None)) for start in range(0, like.shape[2], rows)]

    def settled(self, *estimates: Tensor) -> Tensor:
        return (self.source.run(estimates[0]) + self.initial) / self.threshold

    def unsent(self, state: State, fresh: Tensor) -> tuple[State, Tensor | None]:
        return (state[0], state[1].masked_fill(fresh, 0.0)), None

    def potential(self, state: State) -> Tensor:
        """``f(E) + v(0) − R``: what the receivers do not know yet."""
        value = (self._value(state[0]) - OFF_GRID) / FINE - state[1]
        return value * self.threshold

    def undecided(self, state: State) -> int:
        return self._unclear(state[0], self._value(state[0]))

    def _unclear(self, estimate: Tensor, value: Tensor) -> int:
        if self.source.rectifies or self.source.is_sum:  # exact on a grid
            return 0
        error = NEAR * (1 + value.abs() + (estimate / self.threshold * FINE).abs())
        return int(((value - value.floor() - 0.5).abs() < error).sum())

    def _value(self, estimate: Tensor) -> Tensor:
        """``f(E) + v(0)`` in parts of a level, off the grid."""
        value = finite(self.source.run(estimate), self.source)
        return (value + self.initial).div_(self.threshold).mul_(FINE).add_(OFF_GRID)

    def describe(self) -> str:
        rule = "one a step" if self.rule == "one" else "all in a step"
        count = f"{self.threshold_count} threshold{'s' if self.threshold_count > 1 else ''}"
        return f"{count}, {rule}, sigma-delta"
