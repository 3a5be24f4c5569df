"""Layers with memory: neurons, pooling in time, temporal-difference operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from transpike.codes.time_code import TimeCode
from transpike.core.alphabet import Alphabet
from transpike.core.op import Op, Shape, Shapes, spatially_uniform
from transpike.core.tensor_fields import TensorFields
from transpike.errors import SettingError

State = Any
Mode = Literal["steps", "differences", "windows", "cycles", "slots"]
"""How time passes: "steps" one by one, "differences" steps that carry differences, "windows" in which a layer first
integrates its input, phase "cycles", and time "slots" of a window."""
Gain = Literal["", "reciprocal", "unit"]
"""What a difference that is sent in step t adds to the estimate of its receiver: 1/t of it, or all of it; "" for other
messages."""


@dataclass(frozen=True, eq=False)
class NeuronSpec:
    """The parameters of a neuron that a compiled kernel may use.

    ``threshold`` θ and ``initial`` v(0): tensors that broadcast to (batch, *shape). ``reset``: "soft" subtracts θ,
    "hard" sets the potential to 0. ``leak`` multiplies the potential in each step. ``levels``: the largest level of
    one step. ``negative``: the rule for negative spikes, "" for none. ``depth``: the negative threshold of the rule
    "dual", as a share of θ. ``differential``: levels are differences, divided by their step number. ``period``: the
    steps of a phase cycle.
    ``code``: the neuron fires once in a window, in the slot whose threshold times ``threshold`` is reached.
    ``pre_simulation_steps``: steps that it runs first, before it restarts with a correction.
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
    depth: float = 0.0
    differential: bool = False

    @property
    def is_plain(self) -> bool:
        """True for the integrate-and-fire neuron with one threshold, which scans and kernels support."""
        special = self.negative or self.period or self.code or self.pre_simulation_steps
        return self.leak == 1.0 and self.levels == 1 and not special


@dataclass(frozen=True, eq=False)
class Rounding:
    """How a cell of differences sends a function of the sums of its inputs, for a compiled kernel.

    ``value`` gives the function for sums at the places that ``op.apart`` allows. Its values are rounded to multiples of
    ``grid``, a power of two. Those beyond ``room`` in size, or as ``near`` to an edge as this times 1 + |value / grid|,
    are uncertain.
    """

    op: Op
    value: Callable[..., Tensor]
    grid: float
    room: float
    near: float


@dataclass(frozen=True, eq=False)
class Cell(TensorFields):
    """A layer with memory. Its state is passed, never stored; inputs and outputs are (batch, *shape).

    The output wire carries levels; one level represents the charge ``output_scale``.
    """

    behaviour: ClassVar[tuple[str, ...]] = ("step", "init", "integrate")
    claims: ClassVar[tuple[str, ...]] = (
        "unit",
        "window",
        "counts",
        "fire_window",
        "cycle",
        "scan",
        "settles",
        "rounding",
    )
    free: ClassVar[tuple[str, ...]] = (
        "describe", "check_steps", "updates", "bound", "early", "output_alphabet", "output_scale", "potential",
        "tensors", "with_tensors", "to", "stands_for", "withdraw", "macs", "evaluations", "peak", "example",
        "undecided", "gain", "accepts_levels", "state_reads", "grid_after",
        "on_grid", "parts", "hides_by_sample", "settled", "unsent", "steps_sent",
    )  # fmt: skip
    alphabet: ClassVar[Alphabet]
    modes: ClassVar[tuple[Mode, ...]] = ("steps", "windows")
    """The schedule modes in which the cell works as defined."""
    delays: ClassVar[bool] = False
    """True if the cell answers one window after its input under a schedule with windows."""
    is_delay: ClassVar[bool] = False
    """True if it repeats its input later, so that it must not receive input before its start."""
    sends_reals: ClassVar[bool] = False
    """True if it sends real numbers, which are kept in the working precision of the run."""
    single_steps: ClassVar[bool] = False
    """True if even a whole window must be simulated step by step."""
    per_input: ClassVar[bool] = False
    """True if its parameters change for each input, which a network on a chip cannot do."""
    settles: ClassVar[bool] = False
    """True if a step without input changes nothing and sends nothing after a step in which nothing was sent."""
    takes_levels: ClassVar[bool] = False
    """True if a common spike scale of the inputs may be propagated to the output."""
    multiplies: ClassVar[bool] = False
    """True if its inputs are levels that read stored states, instead of adding to a potential."""

    @classmethod
    def withdraw(cls, name: str, parent: type) -> None:
        """An altered cell is defined by ``step`` alone: no kernel, no closed form, every window step by step."""
        setattr(cls, name, Cell.__dict__[name])
        if name == "counts" and "single_steps" not in cls.__dict__:
            cls.single_steps = True

    @property
    def hides_by_sample(self) -> bool:
        """True if its last input is a mask: Boolean values that hide parts of each sample, which cost nothing."""
        return False

    @property
    def gain(self) -> Gain:
        """The gain of the differences that the cell receives and sends; "" if it has no such code."""
        return ""

    def init(self, *inputs: Tensor) -> State:
        """The state before the first step; ``inputs`` give shape, dtype and device."""
        raise TypeError(f"{type(self).__name__} must define init()")

    def step(self, state: State, *inputs: Tensor, t: int) -> tuple[State, Tensor]:
        """One time step: (new state, output levels). ``t`` counts from 1 at the start of this cell."""
        raise TypeError(f"{type(self).__name__} must define step()")

    def window(self, *trains: Tensor) -> Tensor:
        """All steps from a fresh state; input and output are (time, batch, …)."""
        state, outputs = self.init(*(train[0] for train in trains)), []
        for t in range(len(trains[0])):
            state, output = self.step(state, *(train[t] for train in trains), t=t + 1)
            outputs.append(output)
        return torch.stack(outputs)

    def scan(self, state: State, *trains: Tensor, t: int) -> tuple[State, Tensor, int]:
        """The steps from ``t`` on: (new state, output (time, batch, …), the sum of ``undecided``).

        The dense engine calls it for differences of unit gain. ``trains`` are (time, batch, …) in float64, or float32
        where that holds them exactly; so is the output. ``step`` gets float64. ``t`` is 1 also where elements begin,
        so that more has to be computed than what receives input.
        """
        outputs, unclear = [], 0
        for k, now in enumerate(zip(*trains, strict=True)):
            state, output = self.step(state, *(value.double() for value in now), t=t + k)
            outputs.append(output)
            unclear += self.undecided(state)
        return state, torch.stack(outputs), unclear

    def counts(self, *charges: Tensor, timesteps: int) -> Tensor:
        """Closed form of a layer that integrates a whole window before it fires: total charge in, total levels out."""
        raise SettingError(
            f"{type(self).__name__} has no closed form of a window, because only its step() is defined; use the "
            "streaming schedule"
        )

    def fire_window(self, *charges: Tensor, timesteps: int) -> Tensor:
        """The same result as ``counts``, computed step by step; tests compare the two."""
        return self.counts(*charges, timesteps=timesteps)

    def cycle(self, state: State, *charges: Tensor) -> tuple[State, Tensor]:
        """One phase cycle in closed form: (new state, levels of the answering cycle) for the charge of a cycle."""
        return state, self.counts(*charges, timesteps=1)

    def integrate(self, state: State, *inputs: Tensor) -> State:
        """One time step in which the neuron integrates its input and must not fire."""
        raise SettingError(f"{type(self).__name__} cannot wait before it fires; use the streaming schedule")

    def potential(self, state: State) -> Tensor:
        """The membrane potential in ``state``; only cells with a ``unit`` have one."""
        raise TypeError(f"{type(self).__name__} has no membrane potential")

    def output_scale(self, *inputs: Tensor | None) -> Tensor | None:
        """The spike scale: the charge of one output level, broadcastable to (1, *shape); None is 1 everywhere."""
        return None

    def accepts_levels(self, spike_scales: Sequence[Tensor | None], axis: int) -> bool:
        """Whether it works on the levels of its inputs, whose charges are (1, *shape), or None for currents.

        The features of its output are on ``axis``.
        """
        same = (scale is not None and spatially_uniform(scale, axis) is not None for scale in spike_scales)
        return self.takes_levels and all(same)

    def settled(self, *estimates: Tensor) -> Tensor:
        """What the outputs of a cell of differences add up to for inputs that add up to these, before rounding.

        Cells that define it and ``unsent`` can begin later than others.
        """
        raise TypeError(f"{type(self).__name__} must define settled()")

    def unsent(self, state: State, fresh: Tensor) -> tuple[State, Tensor | None]:
        """The state in which the outputs ``fresh`` (1, *shape) have not been sent yet, and what they have to send
        first, (batch, *shape), or None. For elements that begin later than others, in differential networks.
        """
        raise TypeError(f"{type(self).__name__} must define unsent()")

    def state_reads(self, *events: Tensor, partners: Sequence[Tensor] | None = None) -> Tensor:
        """The number of stored words that these events read, (batch, *shape) for each input; differentiable.

        For cells that multiply. ``partners``: 1 where an element of an input exists, (1, *shape) each; else all do.
        """
        raise TypeError(f"{type(self).__name__} must define state_reads()")

    def check_steps(self, timesteps: int) -> None:
        """Raises SettingError if the cell was converted for runs of another length."""

    def updates(self, timesteps: int) -> int:
        """The number of membrane updates of one neuron in a run of ``timesteps`` steps."""
        return timesteps

    def macs(self, inputs: Shapes, output: Shape) -> int | None:
        """Multiplications of one step of one sample, shapes without the batch. None if the number is unknown.

        Membrane updates, leaks and sums inside a cell are counted as ``updates``, not here.
        """
        return 0

    def evaluations(self, inputs: Shapes, output: Shape) -> dict[str, int]:
        """The number of function evaluations other than multiplications in one step: {"exp": 64}."""
        return {}

    def parts(self, *changed: Tensor) -> Tensor:
        """(batch, parts): which of the parts whose functions are evaluated apart read a changed input."""
        return torch.stack([one.flatten(1).any(1) for one in changed]).any(0)[:, None]

    def bound(self, *inputs: Tensor) -> Tensor | None:
        """The largest |output| of one step, for the largest |inputs|; None if there is no bound."""
        return None

    def grid_after(self, step: Tensor) -> Tensor | None:
        """The grid of the real numbers that it sends, for inputs on the grid ``step``."""
        return self.bound(step)

    def on_grid(self, largest: float) -> "Cell":
        """The cell that engines run on the exact grid: with outputs that it rounds, if they lie on no grid.

        ``largest``: the largest output on calibration data.
        """
        return self

    def early(self, levels: Tensor) -> int:
        """The number of outputs that came before all inputs had arrived, for cells that should wait for them."""
        return 0

    def steps_sent(self, state: State) -> int:
        """The smallest number of steps in which a cell of differences can have sent what it has sent in sum.

        For cells that send levels.
        """
        return 0

    def undecided(self, state: State, present: Tensor | None = None) -> int:
        """The values in ``state`` that are so close to an edge that another order of arithmetic may round them apart.

        For cells that round a function of real numbers; on a grid everything else is exact. ``present`` (1, *shape):
        the outputs that count, if not all.
        """
        return 0

    def output_alphabet(self, *inputs: Alphabet) -> Alphabet:
        """The alphabet of the output wire, given the alphabets of the inputs."""
        return self.alphabet

    @property
    def unit(self) -> NeuronSpec | None:
        """The parameters for compiled kernels, or None if only ``step`` defines the cell."""
        return None

    @property
    def rounding(self) -> Rounding | None:
        """How it rounds a function of the sums of its inputs, of which it sends the changes; None for other cells."""
        return None

    def describe(self) -> str:
        return type(self).__name__


@dataclass(frozen=True, eq=False)
class Neuron(Cell):
    """A cell that replaces an activation of the source network."""

    delays: ClassVar[bool] = True

    source: Op

    @classmethod
    def stands_for(cls, activation: Op) -> bool | str:
        """True if the mean output of the neuron can equal ``activation`` of its mean current, else the reason.

        The default accepts activations with ``rectifies``: a ReLU, clipped or quantised. Other neurons override this.
        """
        if activation.rectifies:
            return True
        if isinstance(getattr(activation, "code", None), TimeCode):
            return "its levels are the slots of first spikes, which a rate cannot represent: use the recipe cat"
        return (
            "the neuron's output is a ReLU of its current, clipped or quantised, and "
            f"{type(activation).__name__} is not declared as one (rectifies = True)"
        )

    @property
    def peak(self) -> Tensor | None:
        """The largest mean output, in charge, broadcastable as ``threshold``; None if it is unknown."""
        return None
