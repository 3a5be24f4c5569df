"""Neurons that simulate their input once before they run on it, corrected."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import BINARY, Alphabet
from transpike.core.cell import Mode, NeuronSpec, State
from transpike.core.spike import fire
from transpike.errors import SettingError
from transpike.neurons._threshold import ThresholdNeuron


@dataclass(frozen=True, eq=False)
class ResidualGate(ThresholdNeuron):
    """τ = ``pre_simulation_steps`` steps of integrate-and-fire; then v restarts from v(0), and only neurons with
    ``v(τ) > margin`` fire: a residual potential that is not positive means that the source's activation was 0.

    The spikes of the pre-simulation reach the next layers, and its steps count as steps of the run. ``margin`` is in
    units of charge, with the shape of the threshold (0.001 θ in the code). Shapes as IntegrateAndFire.
    Source: Hao et al. 2023 (SRP, AAAI), from its code.
    """

    alphabet: ClassVar[Alphabet] = BINARY
    modes: ClassVar[tuple[Mode, ...]] = ("steps",)
    per_input: ClassVar[bool] = True
    margin: Tensor = field(default_factory=lambda: torch.zeros(()))
    pre_simulation_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pre_simulation(self.pre_simulation_steps)

    def init(self, *inputs: Tensor) -> State:
        return super().init(*inputs), torch.ones_like(inputs[0])

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        potential, gate = state
        if t == self.pre_simulation_steps + 1:
            gate = (potential > self.margin).to(potential.dtype)
            potential = super().init(*inputs)
        potential = potential + inputs[0]
        spikes = fire(potential, self.threshold)
        return (potential - spikes * self.threshold, gate), spikes * gate

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, "soft", pre_simulation_steps=self.pre_simulation_steps)

    def describe(self) -> str:
        return f"IF, gated after {self.pre_simulation_steps} steps"


@dataclass(frozen=True, eq=False)
class OffsetCorrected(ThresholdNeuron):
    """Integrates ρ = ``pre_simulation_steps`` steps and tries them; then runs on the whole input, ρ steps late, from a
    corrected v(0).

    With m the potential before the reset, v(ρ) the last potential less the earlier changes of v(0), and c the number
    of spikes of the trial:

    - c > 0 and v(ρ) < 0, a spike too many: ``v(0) ← v(0) − max(θ, min_{fired} m − θ + margin)``
    - v(ρ) ≥ θ and c < ρ, one too few: ``v(0) ← v(0) + max(θ, θ − max_{not fired} m + margin)``

    repeated ``rounds`` times; each round corrects one spike. Needs windows with ρ wait steps, so that each layer adds ρ
    steps of latency. ``margin`` is in units of charge, with the shape of the threshold (0.001 θ in the code). Shapes as
    IntegrateAndFire.
    Source: Hao et al. 2023 (COS, ICLR), from its code, which simulates one round.
    """

    alphabet: ClassVar[Alphabet] = BINARY
    modes: ClassVar[tuple[Mode, ...]] = ("windows",)
    single_steps: ClassVar[bool] = True
    per_input: ClassVar[bool] = True
    margin: Tensor = field(default_factory=lambda: torch.zeros(()))
    pre_simulation_steps: int = 4
    rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pre_simulation(self.pre_simulation_steps)
        if isinstance(self.rounds, bool) or not isinstance(self.rounds, int) or self.rounds < 1:
            raise SettingError(f"rounds must be an integer of at least 1, not {self.rounds!r}")

    def init(self, *inputs: Tensor) -> State:
        return super().init(*inputs), ()

    def integrate(self, state: State, *inputs: Tensor) -> State:
        return state[0], (*state[1], inputs[0].clone())[-self.pre_simulation_steps :]

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        potential, queue = state
        if t == 1:
            potential = self.corrected(queue, potential)
        queue = (*queue, inputs[0].clone())
        potential = potential + queue[0]
        spikes = fire(potential, self.threshold)
        return (potential - spikes * self.threshold, queue[1:]), spikes

    def check_steps(self, timesteps: int) -> None:
        if timesteps < self.pre_simulation_steps:
            raise SettingError(
                f"a pre-simulation of {self.pre_simulation_steps} steps needs a run of at least that length, not "
                f"{timesteps}: use more time steps, or fewer pre_simulation_steps"
            )

    def updates(self, timesteps: int) -> int:
        return self.rounds * self.pre_simulation_steps + timesteps

    def corrected(self, train: tuple[Tensor, ...], initial: Tensor) -> Tensor:
        """v(0) after trials on the received ``train``."""
        start = initial
        for _ in range(self.rounds):
            potential, count = initial, torch.zeros_like(initial)
            weakest, strongest = torch.full_like(initial, torch.inf), torch.full_like(initial, -torch.inf)
            for x in train:
                potential = potential + x
                fired = potential >= self.threshold
                weakest = torch.where(fired, torch.minimum(weakest, potential), weakest)
                strongest = torch.where(fired, strongest, torch.maximum(strongest, potential))
                count = count + fired
                potential = potential - fired * self.threshold
            down = torch.maximum(self.threshold, weakest - self.threshold + self.margin)
            up = torch.maximum(self.threshold, self.threshold - strongest + self.margin)
            left = potential - (initial - start)
            many, few = (count > 0) & (left < 0), (left >= self.threshold) & (count < len(train))
            initial = torch.where(many, initial - down, torch.where(few, initial + up, initial))
        return initial

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        raise SettingError(
            "a corrected neuron needs single steps: use wait_steps equal to its pre-simulation, not whole windows"
        )

    @property
    def unit(self) -> NeuronSpec:
        return NeuronSpec(self.threshold, self.initial, "soft", pre_simulation_steps=self.pre_simulation_steps)

    def describe(self) -> str:
        return f"IF, offset corrected after {self.pre_simulation_steps} steps"


def check_pre_simulation(steps: int) -> None:
    """Raises SettingError unless ``steps`` is a positive integer."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SettingError(f"pre-simulation must be an integer number of steps, at least 1, not {steps!r}")
