"""What the engines share: the run, its counters, and when it is exact."""

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.activity import (
    Activity,
    Connection,
    LayerActivity,
    Role,
    analogue_macs,
    connections,
    fan_outs,
    unpriced,
)
from transpike.core.cell import Cell, Neuron
from transpike.core.encoder import Encoder
from transpike.core.graph import Input, Node
from transpike.core.lowered import Lowered
from transpike.core.plain import is_plain
from transpike.core.readout import Readout
from transpike.core.schedule import Schedule
from transpike.core.trace import Trace
from transpike.errors import SettingError


@dataclass(frozen=True, eq=False)
class Program:
    """All that an engine runs: the lowered form, how input enters, when neurons fire, how the answer is read."""

    lowered: Lowered
    encoder: Encoder
    schedule: Schedule
    readout: Readout
    prepared: dict[Any, Any] = field(default_factory=dict)
    """What an engine makes of the program once, by engine and device."""

    def __post_init__(self) -> None:
        for kind, mode, text in (("phase", "cycles", "phase cycles"), ("time", "slots", "time slots")):
            if self.encoder.alphabet.kind == kind and self.schedule.mode != mode:
                raise SettingError(
                    f"{self.encoder.alphabet} input spikes need {text}, not {self.schedule}; use another encoder"
                )
        if not is_plain(self.schedule, Schedule):
            own = type(self.schedule)
            raise SettingError(
                f"{own.__name__} overrides {', '.join(own.altered)} of {own.__mro__[1].__name__}, and engines run "
                f"the mode {self.schedule.mode!r} as that class says; use {own.__mro__[1].__name__}"
            )
        for node in self.lowered.nodes:
            cell, period = node.op, getattr(node.op, "period", 0)
            if isinstance(cell, Cell) and (self.schedule.mode not in cell.modes or period != self.schedule.period):
                raise SettingError(
                    f"{node.name} ({cell.describe()}) does not work under {self.schedule}; such cells run in "
                    f"{' or '.join(cell.modes)}" + (f" with a period of {period}" if period else "")
                )

    @cached_property
    def single_steps(self) -> bool:
        """True where a window must be stepped, however long layers hear before they fire."""
        return any(node.op.single_steps for node in self.lowered.nodes if isinstance(node.op, Cell))

    def check_steps(self, timesteps: int) -> None:
        """SettingError where a cell cannot run for so long."""
        for node in self.lowered.nodes:
            if isinstance(node.op, Cell):
                node.op.check_steps(timesteps)

    @cached_property
    def fans(self) -> dict[str, Tensor]:
        """Fan-out of every source of spikes, flattened with the channels last."""
        fans = fan_outs(self.lowered)
        spiking = {name: fan for name, fan in fans.items() if self.lowered.alphabets[name].is_spiking}
        return {name: fan.movedim(1, -1).flatten() for name, fan in spiking.items()}

    @cached_property
    def table(self) -> dict[str, Node]:
        return {node.name: node for node in self.lowered.nodes}

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """The layers of weights."""
        return connections(self.lowered)

    @cached_property
    def unpriced(self) -> dict[str, str]:
        """Layer → what it computes that is no multiplication, in one step."""
        return unpriced(self.lowered)

    @cached_property
    def layers(self) -> tuple[LayerActivity, ...]:
        """The layers of spikes before any run: ``biases`` are those of one time that the layer hears them."""
        nothing, found = torch.zeros(0, dtype=torch.float64), []
        for name, fan in self.fans.items():
            node, alphabet = self.table[name], self.lowered.alphabets[name]
            fires = isinstance(node.op, Neuron) and not node.op.relays
            role: Role = "neuron" if fires else "cell" if isinstance(node.op, Cell) else "input"
            unit = node.op.unit if isinstance(node.op, Cell) else None
            biases = 0
            if role == "neuron":
                shape = (1, *node.shape)
                biases = sum(int((b != 0).expand(shape).sum()) for b in self.lowered.biases[name])
            code = getattr(self.encoder, "code", None) if role == "input" else None
            found.append(
                LayerActivity(
                    name, node.op.describe(), role, fan.numel(), str(alphabet), nothing, nothing, 0,
                    synapses=int(fan.sum()), biases=biases, resets=int(unit is not None and unit.code is None),
                    payload_bits=alphabet.payload_bits, code=unit.code if unit is not None else code,
                )
            )  # fmt: skip
        return tuple(found)


class Counter:
    """Adds up what layers send: spikes and synaptic operations of each step, over the batch."""

    def __init__(
        self, program: Program, samples: int, device: torch.device, record: Iterable[str], count: bool
    ) -> None:
        self.program, self.lowered, self.samples = program, program.lowered, samples
        self.fans = {name: fan.to(device) for name, fan in program.fans.items()} if count else {}
        self.record = frozenset(record)
        names = {node.name for node in self.lowered.nodes if isinstance(node.op, (Cell, Input))}
        if unknown := self.record - names:
            raise SettingError(
                f"no spiking layer is called {', '.join(sorted(unknown))}; choose from {', '.join(sorted(names))}"
            )
        self.sent: dict[str, list[Tensor]] = {name: [] for name in self.fans}
        self.operations: dict[str, list[Tensor]] = {name: [] for name in self.fans}
        self.trains: dict[str, list[Tensor]] = {name: [] for name in self.record}
        self.wanted = self.record | self.fans.keys()
        self.steps = 0

    def add(self, name: str, levels: Tensor, spikes: Tensor | None = None) -> None:
        """``levels`` is (time, batch, *shape); ``spikes`` (batch, *shape) where signs cancel in those of a window."""
        if name in self.record:
            self.trains[name].append(levels.clone())
        if name in self.fans:
            alphabet = self.lowered.alphabets[name]
            spikes = (levels.abs() if alphabet.signed else levels) if spikes is None else spikes[None]
            spikes = _ones(spikes) if alphabet.kind in ("phase", "bits") else spikes
            spikes = 2 * (spikes > 0).to(spikes.dtype) if alphabet.kind == "switch" else spikes
            if alphabet.kind == "time":  # whole levels from 1 on, or the real numbers of exact times
                spikes = spikes.clamp(max=1) if alphabet.levels else (spikes > 0).to(spikes.dtype)
            # counts of one neuron over a batch stay far below 2^24, so float32 is exact here
            per_neuron = spikes.movedim(2, -1).flatten(2).sum(1).double()
            self.sent[name].append(per_neuron.sum(1))
            self.operations[name].append(per_neuron @ self.fans[name])

    def add_totals(self, name: str, totals: Tensor) -> None:
        """``totals`` (2, time): the spikes of each step over the batch, and their synaptic operations."""
        self.sent[name].append(totals[0])
        self.operations[name].append(totals[1])

    def activity(self) -> Activity:
        schedule, steps = self.program.schedule, self.steps
        cycles = steps // (schedule.period or 1)
        heard = {"steps": steps, "differences": 1, "windows": steps, "slots": 1, "cycles": cycles}[schedule.mode]
        times = {"steps": steps, "differences": steps, "windows": 1, "slots": 1, "cycles": cycles}[schedule.mode]
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=torch.cat(self.sent[layer.name]).cpu(),
                synaptic_operations=torch.cat(self.operations[layer.name]).cpu(),
                updates=layer.neurons * self._updates(layer.name, steps) * self.samples,
                biases=layer.biases * heard,
            )
            for layer in self.program.layers
            if layer.name in self.fans
        )
        macs = analogue_macs(self.lowered, times, self.program.encoder.is_constant)
        joined = tuple(
            dataclasses.replace(c, times=macs[c.name] // c.macs) if c.analogue and c.macs else c
            for c in self.program.connections
        )
        once = schedule.mode == "differences"
        left_out = self.program.unpriced
        return Activity(layers, self.samples, macs, joined if self.fans else (), steps, once=once, unpriced=left_out)

    def _updates(self, name: str, steps: int) -> int:
        op = self.program.table[name].op
        return op.updates(steps) if isinstance(op, Cell) else 0


def _ones(levels: Tensor) -> Tensor:
    """The number of ones in the binary form of each level: a phase-weighted spike each."""
    total, left = torch.zeros_like(levels), levels
    while bool((left > 0).any()):
        half = torch.floor(left / 2)
        total, left = total + (left - 2 * half), half
    return total


class Run:
    """One simulation in progress. ``advance(n)`` gives the logits of the next n steps, (answers, batch, classes)."""

    def __init__(self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str], count: bool) -> None:
        self.program, self.x, self.sample_ids = program, x, sample_ids
        self.counter = Counter(program, len(x), x.device, record, count)
        self.logits: list[Tensor] = []
        self.timesteps: list[int] = []
        self.t, self.ties, self.early = 0, 0, 0
        self.reading: Tensor | None = None
        self.exact, self.why = _exact(program, x)
        self.kernels: dict[str, str] = {}
        self.double = any(isinstance(node.op, Cell) and node.op.continuous for node in program.lowered.nodes)

    def advance(self, steps: int) -> Tensor:
        """Simulate ``steps`` more steps; a layer-synchronous run is one window, asked for once, as are phase cycles."""
        schedule, before = self.program.schedule, len(self.logits)
        if schedule.mode == "steps":
            self._steps(steps)
        elif schedule.mode == "differences":
            self._differences(steps)
        elif self.t:
            raise SettingError("such a run has its length from the start; start another for another length")
        elif schedule.mode == "cycles":
            self._cycles(steps)
        elif schedule.mode == "slots":
            self.program.check_steps(steps)
            self._slots(steps)
        elif schedule.lag(steps) < steps or self.program.single_steps:
            self.program.check_steps(steps)
            self._held(steps)
        else:
            self._window(steps)
        self.counter.steps += steps
        exactness = self.program.lowered.exactness
        if self.exact and exactness is not None and schedule.mode != "slots" and self.t > exactness.timesteps:
            self.exact, self.why = False, f"exact up to {exactness.timesteps} steps only: {exactness.reason}"
        return torch.stack(self.logits[before:])

    def read(self, output: Tensor, t: int) -> None:
        """Pass the output's current of step t, bias included, to the readout."""
        readout = self.program.readout
        state = readout.init(output) if self.reading is None else self.reading
        self.reading = readout.update(state, output, t)
        logits = readout.logits(self.reading, t)
        self.logits.append(logits if self.double else logits.float())
        self.timesteps.append(t)

    def keep(self, mask: Tensor) -> Tensor:
        """Go on with the samples where ``mask`` (batch,) is true; counters keep what the others did.

        Gives (samples that go on,): which sample now lies where. Holes are filled from the end, so that little moves.
        """
        order = closed_up(mask)
        self.x, self.sample_ids = self.x[order], self.sample_ids[order]
        self.reading = None if self.reading is None else self.reading[order]
        self._keep(order)
        return order

    def finish(self) -> Trace:
        trains = {name: torch.cat(parts) for name, parts in self.counter.trains.items() if parts}
        logits = torch.stack(self.logits) if len({len(row) for row in self.logits}) == 1 else self.logits[-1][None]
        return Trace(
            logits,
            tuple(self.timesteps),
            self.counter.activity(),
            trains,
            self.exact,
            self.why,
            self.ties,
            self.kernels,
            self.early,
        )

    def _steps(self, steps: int) -> None:
        raise TypeError(f"{type(self).__name__} must define _steps()")

    def _differences(self, steps: int) -> None:
        """Steps that carry differences; constants come in the first."""
        raise TypeError(f"{type(self).__name__} must define _differences()")

    def _window(self, timesteps: int) -> None:
        """A whole window for every layer, one layer after another."""
        raise TypeError(f"{type(self).__name__} must define _window()")

    def _held(self, timesteps: int) -> None:
        """A window of which layers hear a part before they fire."""
        raise TypeError(f"{type(self).__name__} must define _held()")

    def _slots(self, timesteps: int) -> None:
        """Windows of ``timesteps`` slots, one spike at most in each."""
        raise TypeError(f"{type(self).__name__} must define _slots()")

    def _cycles(self, timesteps: int) -> None:
        """Phase cycles, ``timesteps`` being those in which a layer listens."""
        raise TypeError(f"{type(self).__name__} must define _cycles()")

    def _keep(self, order: Tensor) -> None:
        """The engine's own state of these samples, in this order."""
        raise TypeError(f"{type(self).__name__} must define _keep()")


@functools.cache
def adds_exactly(device: str, settings: tuple[object, ...]) -> bool:
    """True where this device's convolution and matrix product add multiples of one step without rounding.

    Winograd, TF32 and bfloat16 kernels do not; ``settings`` of torch that choose kernels only tell answers apart in
    the cache.
    """
    random = torch.Generator().manual_seed(0)
    spikes = torch.randint(0, 2, (8, 64, 16, 16), generator=random).double()
    weights = torch.randint(-(2**17), 2**17, (64, 64, 3, 3), generator=random).double()
    flat = weights.flatten(1)
    images = F.conv2d(spikes.float().to(device), weights.float().to(device), padding=1).cpu().double()
    rows = F.linear(spikes.flatten(1)[:, : flat.shape[1]].float().to(device), flat.float().to(device)).cpu().double()
    same_images = torch.equal(images, F.conv2d(spikes, weights, padding=1))
    return same_images and torch.equal(rows, F.linear(spikes.flatten(1)[:, : flat.shape[1]], flat))


def _exact(program: Program, x: Tensor) -> tuple[bool, str]:
    largest = float(x.abs().max()) if x.numel() else 0.0
    exactness = program.lowered.exactness
    if exactness is None:
        return False, "the network is not on the exact grid"
    if exactness.timesteps == 0:
        return False, exactness.reason
    if program.encoder.worth is None and largest > exactness.input_bound:
        return False, f"an input of {largest:.3g} lies beyond the calibrated range of {exactness.input_bound:.3g}"
    tf32 = x.device.type == "cuda" and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    settings = (tf32, torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled)
    if not adds_exactly(str(x.device), settings):
        return False, f"the convolution of {x.device} rounds its sums (TF32 or Winograd)"
    return True, ""


def closed_up(mask: Tensor) -> Tensor:
    """Where ``mask`` (batch,) is true, as places: the first n stay, holes among them are filled from behind them."""
    going = mask.nonzero()[:, 0]
    order = torch.arange(len(going), device=mask.device)
    order[~mask[: len(going)]] = going[going >= len(going)]
    return order


def map_state(state: object, change: object) -> object:
    """Apply ``change`` to every tensor in a cell's state."""
    if isinstance(state, Tensor):
        return change(state)  # type: ignore[operator]
    if isinstance(state, tuple):
        return tuple(map_state(part, change) for part in state)
    return state
