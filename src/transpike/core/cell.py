"""Whatever has memory: neurons, lateral-inhibition pooling, temporal-difference operators."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from transpike.codes.time_code import TimeCode
from transpike.core.alphabet import Alphabet
from transpike.core.op import Op, Shape, Shapes
from transpike.core.tensor_fields import TensorFields
from transpike.errors import SettingError

State = Any
Mode = Literal["steps", "differences", "windows", "cycles", "slots"]
"""How time passes: step by step, in steps that carry differences, in windows that a layer hears first, in phase
cycles, in slots of a window."""


@dataclass(frozen=True, eq=False)
class NeuronSpec:
    """All that a compiled kernel may read of a neuron.

    ``threshold`` θ and ``initial`` v(0): tensors that broadcast to (batch, *shape). ``reset``: "soft" subtracts θ,
    "hard" sets the potential to 0. ``leak`` multiplies the potential each step. ``levels`` is the most that one step
    sends, ``negative`` the rule by which negative spikes come, "" for none; ``period`` the steps of a phase cycle.
    ``code``: it fires once in a window, where the threshold of the slot times ``threshold`` is reached. ``pre_simulation_steps``:
    steps that it runs first, to start anew with what it has learned of its input.
    """

    threshold: Tensor
    initial: Tensor
    reset: str
    leak: float = 1.0
    levels: int = 1
    negative: str = ""
    period: int = 0
    code: TimeCode | None = None
    pre_simulation_steps: int = 0

    @property
    def is_plain(self) -> bool:
        """True for the integrate-and-fire neuron of one threshold: the form that scans and kernels know."""
        special = self.negative or self.period or self.code or self.pre_simulation_steps
        return self.leak == 1.0 and self.levels == 1 and not special


@dataclass(frozen=True, eq=False)
class Cell(TensorFields):
    """A layer with memory. Its state is passed, never stored; inputs and outputs are (batch, *shape).

    A wire that leaves a cell carries levels; their worth is ``spike_scale``.
    """

    behaviour: ClassVar[tuple[str, ...]] = ("step", "init", "integrate")
    claims: ClassVar[tuple[str, ...]] = ("unit", "window", "counts", "fire_window", "cycle")
    free: ClassVar[tuple[str, ...]] = (
        "describe", "check_steps", "updates", "bound", "early", "output_alphabet", "output_scale", "potential",
        "tensors", "with_tensors", "to", "stands_for", "withdraw", "macs", "evaluations", "peak", "example",
    )  # fmt: skip
    alphabet: ClassVar[Alphabet]
    modes: ClassVar[tuple[Mode, ...]] = ("steps", "windows")
    """The schedules under which the cell works as it is defined."""
    delays: ClassVar[bool] = False
    """True where a schedule with windows lets the cell answer one window after its input."""
    is_delay: ClassVar[bool] = False
    """True where it repeats later what it hears, so that nothing may be heard before its time."""
    sends_reals: ClassVar[bool] = False
    """True where it sends real numbers, which a run keeps in the precision that it works in."""
    single_steps: ClassVar[bool] = False
    """True where even a window that is held whole must be heard step by step."""
    per_input: ClassVar[bool] = False
    """True where it changes itself for each input, which a network on a chip cannot."""
    takes_levels: ClassVar[bool] = False
    """True where a common amplitude of the inputs may pass through to the output."""

    @classmethod
    def withdraw(cls, name: str, parent: type) -> None:
        """Only ``step`` says what an altered cell does: no kernel, no closed form, every window step by step."""
        setattr(cls, name, Cell.__dict__[name])
        if name == "counts" and "single_steps" not in cls.__dict__:
            cls.single_steps = True

    def init(self, *inputs: Tensor) -> State:
        """The state before the first step; ``inputs`` tell shape, dtype and device."""
        raise TypeError(f"{type(self).__name__} must define init()")

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        """One time step; ``t`` counts from 1 at this cell's own start."""
        raise TypeError(f"{type(self).__name__} must define step()")

    def window(self, *trains: Tensor) -> Tensor:
        """(time, batch, …) in and out: all steps, from a fresh state."""
        state, outputs = self.init(*(train[0] for train in trains)), []
        for t in range(len(trains[0])):
            state, output = self.step(state, *(train[t] for train in trains), t=t + 1)
            outputs.append(output)
        return torch.stack(outputs)

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        """Closed form of a layer that hears a whole window before it fires: total charge in, total levels out."""
        raise SettingError(
            f"{type(self).__name__} has no closed form of a window, its steps alone say what it does; use the "
            "streaming schedule"
        )

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        """The same as ``counts`` by time steps, the oracle of the closed form."""
        return self.counts(*charges, timesteps=timesteps)

    def cycle(self, state: State, *charges: Tensor) -> tuple[State, Tensor]:
        """One phase cycle in closed form: a cycle's charge in, the levels of the cycle that answers it out."""
        return state, self.counts(*charges, timesteps=1)

    def integrate(self, state: State, *inputs: Tensor) -> State:
        """One time step in which a neuron hears and must not fire."""
        raise SettingError(f"{type(self).__name__} cannot hold its spikes; use the streaming schedule")

    def potential(self, state: State) -> Tensor:
        """The membrane potential in a state; only cells with a ``unit`` have one."""
        raise TypeError(f"{type(self).__name__} has no membrane potential")

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        """The worth of one output level, broadcastable to (1, *shape); None is 1 everywhere."""
        return None

    def check_steps(self, timesteps: int) -> None:
        """SettingError where the cell was made for runs of another length."""

    def updates(self, timesteps: int) -> int:
        """How often a run of ``timesteps`` steps changes the membrane potential of one neuron."""
        return timesteps

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        """Multiplications of one step of one sample; the shapes are without the batch. None where nobody knows.

        Potentials, leaks and the sums that a cell keeps are counted as ``updates``, not here.
        """
        return 0

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        """How often one step evaluates what is no multiplication, by function."""
        return {}

    def bound(self, *inputs: Tensor) -> Tensor | None:
        """The largest absolute output of one step, for the largest absolute inputs; None where there is no bound."""
        return None

    def early(self, levels: Tensor) -> int:
        """How many of these outputs came before the cell had heard all of its input, where it should have."""
        return 0

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        """What the output wire carries, given what the inputs carry."""
        return self.alphabet

    @property
    def unit(self) -> NeuronSpec | None:
        """What a kernel may read, or None where only ``step`` knows."""
        return None

    def describe(self) -> str:
        return type(self).__name__


@dataclass(frozen=True, eq=False)
class Neuron(Cell):
    """A cell that stands for an activation of the source network."""

    delays: ClassVar[bool] = True

    source: Op

    @classmethod
    def stands_for(cls, activation: Op) -> bool | str:
        """True where the mean of what the neuron sends can be ``activation`` of its mean current, else the reason.

        An activation says that it is a ReLU, clipped or in levels (``rectifies``); a neuron for others overrides this.
        """
        if activation.rectifies:
            return True
        if isinstance(getattr(activation, "code", None), TimeCode):
            return "its levels are the slots of first spikes, which a rate does not have: use the recipe cat"
        return (
            "what it sends is a ReLU of its current, clipped or in levels, and "
            f"{type(activation).__name__} does not say that it is one (rectifies = True)"
        )

    @property
    def peak(self) -> Tensor | None:
        """The most that it can send in the mean, in charge, as ``threshold`` broadcasts; None where nothing tells."""
        return None
