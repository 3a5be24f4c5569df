"""Neurons with several thresholds, each half of the next."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.cell import Gain, Mode, NeuronSpec, State
from transpike.core.op import Op
from transpike.core.spike import floor_clip
from transpike.errors import SettingError
from transpike.neurons._digits import check_threshold_count as check_threshold_count
from transpike.neurons._digits import nearest_threshold as nearest_threshold
from transpike.neurons._function import FunctionNeuron
from transpike.neurons._threshold import ThresholdNeuron

ThresholdRule = Literal["any", "one"]
Followed = Literal["current", "value"]


@dataclass(frozen=True, eq=False)
class MultiThreshold(ThresholdNeuron):
    """Thresholds ``θ, 2 θ … 2^{n−1} θ``, n = ``threshold_count``; ``threshold`` θ is one level. By ``rule``:

    - "any": any subset of them, greedily from the top, so that the level is ``clip(⌊m / θ⌋, 0, 2^n − 1)`` in bits, one
      spike per bit (H-MT, Zhang et al. 2026); equal to a burst of Γ = 2^n − 1 with at most n spikes
    - "one": the highest with ``|m| ≥ ¾ 2^i θ``, one spike of either sign, which leaves at most half of it; a negative
      one removes at most what was sent (MT neuron of DCGS, Huang et al. 2025)

    Soft reset. Closed form of a window for "any": ``clip(⌊(Q + v(0)) / θ⌋, 0, (2^n − 1) T)``; "one" has none.
    Shapes as IntegrateAndFire.

    >>> cell = MultiThreshold(None, torch.tensor(0.25), torch.tensor(0.0), threshold_count=3)
    >>> cell.window(torch.tensor([[1.25], [0.375]])).flatten().tolist()
    [5.0, 1.0]
    """

    alphabet: ClassVar[Alphabet] = Alphabet("bits", 15)
    threshold_count: int = 4
    rule: ThresholdRule = "any"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold_count(self.threshold_count)
        if self.rule not in get_args(ThresholdRule):
            raise SettingError(f"rule must be one of {', '.join(get_args(ThresholdRule))}, not {self.rule!r}")

    @property
    def most(self) -> int:
        """The largest level of one step."""
        return 2**self.threshold_count - 1 if self.rule == "any" else 2 ** (self.threshold_count - 1)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("bits", self.most, signed=self.rule == "one")

    def init(self, *inputs: Tensor) -> State:
        potential = super().init(*inputs)
        return potential if self.rule == "any" else (potential, torch.zeros_like(inputs[0]))

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        if self.rule == "any":
            potential = state + inputs[0]
            levels = floor_clip(potential / self.threshold, self.most)
            return potential - levels * self.threshold, levels
        potential, sent = state[0] + inputs[0], state[1]
        levels = nearest_threshold(potential / self.threshold, self.threshold_count, sent)
        return (potential - levels * self.threshold, sent + levels), levels

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        if self.rule == "one":
            raise SettingError("the rule 'one' has no closed form: use the streaming schedule")
        return self.staircase(charges[0], self.most * timesteps)

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        if self.rule == "one":
            return self.counts(*charges, timesteps=timesteps)
        return super().fire_window(*charges, timesteps=timesteps)

    @property
    def unit(self) -> NeuronSpec:
        negative = "nearest" if self.rule == "one" else ""
        return NeuronSpec(self.threshold, self.initial, "soft", levels=self.most, negative=negative)

    def describe(self) -> str:
        return f"{self.threshold_count} thresholds, {'any of them' if self.rule == 'any' else 'one a step'}"


@dataclass(frozen=True, eq=False)
class SignedMultiThreshold(ThresholdNeuron):
    """The rule "one" for values of either sign: ``v += x;  s = Q(v);  v −= s``.

    Q is ± the highest of θ, 2 θ … 2^{n−1} θ with ``|v| ≥ ¾ 2^i θ``, or 0; n = ``threshold_count``, ``threshold`` θ is
    one level. A negative spike is not limited by what was sent, so that the mean of the spikes follows the mean of the
    input: ``mean s = mean x − (v(T) − v(0)) / T``. It encodes a wire and represents no function.
    Source: Huang et al. 2024 (ECMT, MM), multi-threshold neuron.

    >>> from transpike.activations import Unchanged
    >>> cell = SignedMultiThreshold(Unchanged(), torch.tensor(0.25), torch.tensor(0.0), threshold_count=3)
    >>> cell.window(torch.tensor([[-1.25], [0.375]])).flatten().tolist()
    [-4.0, 0.0]
    """

    alphabet: ClassVar[Alphabet] = Alphabet("bits", 128, signed=True)
    modes: ClassVar[tuple[Mode, ...]] = ("steps",)
    single_steps: ClassVar[bool] = True
    threshold_count: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold_count(self.threshold_count)

    @classmethod
    def stands_for(cls, activation: Op) -> bool | str:
        return activation.is_sum or "it encodes values of either sign, as they are"

    @property
    def most(self) -> int:
        """The largest level of one step."""
        return 2 ** (self.threshold_count - 1)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("bits", self.most, signed=True)

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        potential = state + inputs[0]
        levels = nearest_threshold(potential / self.threshold, self.threshold_count)
        return potential - levels * self.threshold, levels

    @property
    def peak(self) -> Tensor | None:
        return self.most * self.threshold if self.spike_scale is None else self.most * self.spike_scale

    def describe(self) -> str:
        return f"{self.threshold_count} thresholds of either sign, one a step"


@dataclass(frozen=True, eq=False)
class DifferentialMultiThreshold(FunctionNeuron):
    """The rule "one" in differential coding, where a spike of step t changes an estimate by 1/t of its spike scale:

    ``v += x + r_in − r_out − s;  r_in += x / t;  r_out += s / t``

    x are the received differences, s the sent one, r_in and r_out their estimates: after T steps
    ``r_out = r_in − (v(T) − v(0)) / T``, as in rate coding, to which it is equivalent (the rate sent in step t is
    ``s + r_out``), but a constant input and a bias arrive once, and a settled network is silent. A negative spike
    leaves r_out at 0 or above: this is the rule for a ReLU, ``follows`` "current". For another function f = ``source``
    of one value the neuron integrates the error of its value instead, ``follows`` "value", without that floor:

    ``r_in += x / t;  y = f(r_in);  v += t (y − y') + y' − r_out − s;  r_out += s / t``, y' the y of the step before

    with the same ``r_out = f(r_in) − (v(T) − v(0)) / T``. The state holds real numbers, so that potentials are on no
    grid.
    Source: Huang et al. 2025 (DCGS, ICML), from its code, where r_in and r_out are also those before the step.

    >>> cell = DifferentialMultiThreshold(None, torch.tensor(0.25), torch.tensor(0.0), threshold_count=3)
    >>> cell.window(torch.tensor([[1.0], [0.0], [0.0]])).flatten().tolist()
    [4.0, 0.0, 0.0]
    """

    alphabet: ClassVar[Alphabet] = Alphabet("bits", 128, signed=True)
    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    threshold_count: int = 8
    follows: Followed = "current"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold_count(self.threshold_count)
        if self.follows not in get_args(Followed):
            raise SettingError(f"follows must be one of {', '.join(get_args(Followed))}, not {self.follows!r}")
        if self.follows == "current" and self.source is not None and not self.source.rectifies:
            raise SettingError(f"a neuron that follows its current is a ReLU, and not {self.source.describe()}")

    @property
    def evaluates(self) -> bool:
        return self.follows == "value"

    @property
    def gain(self) -> Gain:
        return "reciprocal"

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("bits", 2 ** (self.threshold_count - 1), signed=True)

    def init(self, *inputs: Tensor) -> State:
        zeros = torch.zeros_like(inputs[0])
        state = super().init(*inputs), zeros, zeros
        return state if self.follows == "current" else (*state, zeros)

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        if self.follows == "value":
            return self._value_step(state, inputs[0], t)
        potential, received, sent = state
        potential = potential + inputs[0] + received - sent
        levels = nearest_threshold(potential / self.threshold, self.threshold_count, t * sent / self.threshold)
        spikes = levels * self.threshold
        return (potential - spikes, received + inputs[0] / t, sent + spikes / t), levels

    def _value_step(self, state: State, x: Tensor, t: int) -> tuple[State, Tensor]:
        potential, received, sent, before = state
        received = received + x / t
        value = self.source.run(received)
        potential = potential + t * (value - before) + before - sent
        levels = nearest_threshold(potential / self.threshold, self.threshold_count)
        spikes = levels * self.threshold
        return (potential - spikes, received, sent + spikes / t, value), levels

    @property
    def peak(self) -> Tensor | None:
        """Infinite: differences have no largest sum. None if the neuron follows a value, which has its own bounds."""
        return None if self.follows == "value" else torch.full_like(self.threshold, torch.inf)

    @property
    def unit(self) -> NeuronSpec | None:
        if self.follows == "value":
            return None
        levels = 2 ** (self.threshold_count - 1)
        return NeuronSpec(self.threshold, self.initial, "soft", levels=levels, negative="nearest", differential=True)

    def describe(self) -> str:
        what = self.source.describe() if self.follows == "value" else "differences"
        return f"{self.threshold_count} thresholds, one a step, of {what}"
