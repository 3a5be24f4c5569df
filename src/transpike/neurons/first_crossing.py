"""Neurons that fire as they hear, once, with weights that count from the spike on: no closed form."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from transpike.core.alphabet import GRADED, TERNARY, Alphabet
from transpike.core.cell import Cell, Mode, State
from transpike.core.spike import fire
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron

LatchRule = Literal["first", "corrective", "dynamic"]


@dataclass(frozen=True, eq=False)
class FirstCrossing(ThresholdNeuron):
    """``v += x;  s = 1 if v > θ and it has not fired else 0``: a spike moves v at once and for good, none resets it.

    What arrives after the spike is lost. With ``timed`` T the spike of slot t carries the level T − t, t from 0: a
    readout then knows how early it came; without, every spike is 1. Not strict (``v ≥ θ``) with ``strict=False``.
    Under time slots with wait_steps=0. Shapes as IntegrateAndFire.
    Source: Kheradpisheh and Masquelier 2020 (S4NN; BS4NN 2021), from their code.

    >>> cell = FirstCrossing(None, torch.tensor(1.0), torch.tensor(0.0))
    >>> cell.window(torch.full((5, 1), 0.4)).flatten().tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0]
    """

    alphabet: ClassVar[Alphabet] = Alphabet("time", 1)
    modes: ClassVar[tuple[Mode, ...]] = ("slots",)
    strict: bool = True
    timed: int = 0

    def init(self, *inputs: Tensor) -> State:
        return super().init(*inputs), torch.zeros_like(inputs[0], dtype=torch.bool)

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        potential, fired = state
        potential = potential + inputs[0]
        over = potential > self.threshold if self.strict else potential >= self.threshold
        now = over & ~fired
        return (potential, fired | now), now.to(potential.dtype) * max(self.timed + 1 - t if self.timed else 1, 0)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return Alphabet("time", max(self.timed, 1))

    def describe(self) -> str:
        return "first crossing" + (f", worth {self.timed} in the first slot" if self.timed else "")


@dataclass(frozen=True, eq=False)
class Latched(ThresholdNeuron):
    """``I += x;  v += I``: a spike, the bias and the analogue input bring a current that stays, so that v ramps.

    "first": one spike when v reaches θ, none after. "corrective": +1 whenever v rises to θ, −1 whenever it falls below
    again, which takes the current back. "dynamic": one spike when v reaches θ plus what inputs may still take away or
    bring, the second input: changes of ``Σ |W| p`` over inputs p that are on their way (``PendingInput``).
    A constant current x reaches θ after θ/x steps: 1/t is the rate. Under time slots with wait_steps=0; everything arrives
    once, and bias from the start (snn_toolbox waits for the first input spike). Shapes as IntegrateAndFire.
    Source: Rueckauer and Liu 2018 (ISCAS), from snn_toolbox's ttfs, ttfs_dyn_thresh and ttfs_corrective; what counts as
    an input on its way is **reconstructed**: it has not fired and its current is positive.
    """

    alphabet: ClassVar[Alphabet] = Alphabet("time", 1)
    modes: ClassVar[tuple[Mode, ...]] = ("slots",)
    rule: LatchRule = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule not in get_args(LatchRule):
            raise SettingError(f"rule must be one of {', '.join(get_args(LatchRule))}, not {self.rule!r}")

    def init(self, *inputs: Tensor) -> State:
        zeros = torch.zeros_like(inputs[0])
        return super().init(*inputs), zeros, torch.zeros_like(zeros, dtype=torch.bool), zeros

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        potential, current, fired, missing = state
        current = current + inputs[0]
        potential = potential + current
        missing = missing + inputs[1] if len(inputs) > 1 else missing
        over = fire(potential, self.threshold + missing).bool()
        if self.rule == "corrective":
            return (potential, current, over, missing), over.to(potential.dtype) - fired.to(potential.dtype)
        now = over & ~fired
        return (potential, current, fired | now, missing), now.to(potential.dtype)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return TERNARY if self.rule == "corrective" else self.alphabet

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        return super().output_scale()

    def describe(self) -> str:
        return f"latched current, {self.rule}"


@dataclass(frozen=True, eq=False)
class PendingInput(Latched):
    """+1 when a latched neuron is on its way to fire, with a positive current, −1 when it is not any more.

    It runs beside the neuron and hears the same, so that the next layer knows what may still come.
    """

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        before = self._likely(state)
        state, _ = super().step(state, *inputs, t=t)
        return state, self._likely(state) - before

    def _likely(self, state: State) -> Tensor:
        return ((state[1] > 0) & ~state[2]).to(state[0].dtype)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return TERNARY

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        return None

    def describe(self) -> str:
        return "prospect"


@dataclass(frozen=True, eq=False)
class Integrator(Cell):
    """``I += x;  out = I / steps``: the output layer of latched currents, whose mean membrane slope is the answer."""

    alphabet: ClassVar[Alphabet] = GRADED
    modes: ClassVar[tuple[Mode, ...]] = ("slots",)
    steps: int = 1

    def check_steps(self, timesteps: int) -> None:
        if timesteps != self.steps:
            raise SettingError(
                f"the network was made for {self.steps} steps, which its answer is divided by, not {timesteps}: "
                f"convert with timesteps={timesteps}"
            )

    def init(self, *inputs: Tensor) -> Tensor:
        return torch.zeros_like(inputs[0])

    def step(self, state: Tensor, *inputs: Tensor, t: int) -> tuple[Tensor, Tensor]:
        state = state + inputs[0]
        return state, state / self.steps

    def bound(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def describe(self) -> str:
        return "latch"
