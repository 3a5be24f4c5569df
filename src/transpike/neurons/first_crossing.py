"""Neurons that fire once, while they still receive input; a spike changes the current or potential for good."""

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
    """``v += x;  s = 1 if v > θ and it has not fired else 0``: each input moves v permanently, and there is no reset.

    Input after the spike is ignored. With ``timed`` T the spike of slot t carries the level T − t, t from 0, so that a
    readout can use its time; without it every spike is 1. ``strict=False``: ``v ≥ θ``. It runs under time slots with
    wait_steps=0. Shapes as IntegrateAndFire.
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
        return "first crossing" + (f", level {self.timed} in the first slot" if self.timed else "")


@dataclass(frozen=True, eq=False)
class Latched(ThresholdNeuron):
    """``I += x;  v += I``: a spike, the bias and the analogue input add a permanent current, so that v is a ramp.

    "first": one spike when v reaches θ, none after. "corrective": +1 whenever v rises to θ, −1 whenever it falls below
    again, which removes the current. "dynamic": one spike when v reaches θ plus the change that pending inputs may
    still cause, given by the second input: changes of ``Σ |W| p`` over pending inputs p (``PendingInput``).
    A constant current x reaches θ after θ/x steps: 1/t is the rate. It runs under time slots with wait_steps=0; all
    inputs arrive once, and the bias from the start (snn_toolbox waits for the first input spike). Shapes as
    IntegrateAndFire.
    Source: Rueckauer and Liu 2018 (ISCAS), from snn_toolbox's ttfs, ttfs_dyn_thresh and ttfs_corrective; the definition
    of a pending input is **reconstructed**: it has not fired and its current is positive.
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
    """+1 when a latched neuron becomes pending (positive current, no spike yet), −1 when it no longer is.

    It runs in parallel to the neuron on the same input, so that the next layer knows which spikes may still come.
    """

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        before = self._pending(state)
        state, _ = super().step(state, *inputs, t=t)
        return state, self._pending(state) - before

    def _pending(self, state: State) -> Tensor:
        return ((state[1] > 0) & ~state[2]).to(state[0].dtype)

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        return TERNARY

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        return None

    def describe(self) -> str:
        return "pending input"


@dataclass(frozen=True, eq=False)
class Integrator(Cell):
    """``I += x;  out = I / steps``: the output layer of latched currents; the answer is the mean membrane slope."""

    alphabet: ClassVar[Alphabet] = GRADED
    modes: ClassVar[tuple[Mode, ...]] = ("slots",)
    steps: int = 1

    def check_steps(self, timesteps: int) -> None:
        if timesteps != self.steps:
            raise SettingError(
                f"the network was converted for {self.steps} steps, by which its answer is divided, not for "
                f"{timesteps}: convert with timesteps={timesteps}"
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
