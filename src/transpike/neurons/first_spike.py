"""Neurons that fire once: two phases with a falling threshold, and the delay for shortcuts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.codes.time_code import TimeCode
from transpike.core.alphabet import Alphabet
from transpike.core.cell import Mode, NeuronSpec, State
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron
from transpike.neurons.delay import Delay


@dataclass(frozen=True, eq=False)
class FirstSpike(ThresholdNeuron):
    """Integrating: ``v += x``. Firing, in slot t = 0 … T − 1, at most once: ``s = 1 if v ≥ θ · slot_thresholds[t]``.

    A spike in slot t has the value θ κ(t). The thresholds of the slots are those of ``code``; a wire carries the level
    of the slot, an integer. The receiver multiplies by κ(t); sender and receiver share one ``code``. With whole windows
    no input arrives after the first slot of firing; with early firing input changes v until the spike, and a neuron
    that has fired stays silent (T2FSNN's code lets it fire again).
    This class must not use the closed form, ``codes.first_spike``. Shapes as IntegrateAndFire.
    Source: Park et al. 2020 (T2FSNN), from its code, with a fired flag; Lew et al. 2022 (CAT) for base 2.

    >>> cell = FirstSpike(None, torch.tensor(1.0), torch.tensor(0.0), code=TimeCode(3, 1.0))
    >>> state = cell.integrate(cell.init(torch.zeros(1)), torch.tensor([0.6]))
    >>> state, first = cell.step(state, torch.zeros(1), t=1)
    >>> state, second = cell.step(state, torch.zeros(1), t=2)
    >>> first.tolist(), second.tolist()
    ([0.0], [128.0])
    """

    alphabet: ClassVar[Alphabet] = Alphabet("time", 256)
    modes: ClassVar[tuple[Mode, ...]] = ("slots",)
    code: TimeCode = TimeCode()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial.device.type != "meta" and bool(self.initial.any()):
            raise SettingError(
                "first-spike neurons start at potential 0, because their closed form uses the charge only: put an "
                "initial charge into the bias, as CalibrateBias does"
            )

    @classmethod
    def stands_for(cls, activation: Op) -> bool | str:
        coded = isinstance(getattr(activation, "code", None), TimeCode) and is_plain(activation, Op)
        return True if coded else super().stands_for(activation)

    def check_steps(self, timesteps: int) -> None:
        self.code.shortened(timesteps)

    def init(self, *inputs: Tensor) -> State:
        return super().init(*inputs), torch.zeros_like(inputs[0], dtype=torch.bool)

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        potential, fired = state
        potential = potential + inputs[0]
        if t > self.code.slots:
            return (potential, fired), torch.zeros_like(potential)
        now = (potential >= self.threshold * float(self.code.slot_thresholds[t - 1])) & ~fired
        return (potential, fired | now), now.to(potential.dtype) * float(self.code.levels[t - 1])

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("time", int(self.code.levels[0]))

    def output_scale(self, *inputs: Tensor | None) -> Tensor:
        spike_scale = super().output_scale(*inputs)
        assert spike_scale is not None
        return spike_scale * self.code.spike_scale

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, "soft", code=self.code)

    def describe(self) -> str:
        return f"first spike, {self.code}"


@dataclass(frozen=True, eq=False)
class Retimed(Delay):
    """Repeats its input later, by the slots that neurons wait before they fire: the delay of a shortcut.

    A spike that is passed on is counted again. Passes any alphabet.
    """

    alphabet: ClassVar[Alphabet] = Alphabet("time", 256)
    modes: ClassVar[tuple[Mode, ...]] = ("slots", "windows")

    def init(self, *inputs: Tensor) -> State:
        return ()

    def integrate(self, state: State, *inputs: Tensor) -> State:
        return (*state, inputs[0].clone())

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        queue = (*state, inputs[0].clone())
        return queue[1:], queue[0]

    def describe(self) -> str:
        return "delayed by a window"
