"""The input of an engine, and the counts that do not depend on a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Connection, Crossing, Evaluations, LayerActivity, Role
from transpike.core.answer import AnalogueRest
from transpike.core.cell import Cell, Neuron
from transpike.core.encoder import Encoder
from transpike.core.graph import Graph, Input, Node
from transpike.core.plain import is_plain
from transpike.core.readout import Readout
from transpike.core.schedule import Schedule
from transpike.errors import SettingError
from transpike.lowering.activity import analogue_macs, connections, fan_outs, state_fans, unpriced
from transpike.lowering.boundary import boundary_fans, connections_once, crossings, evaluations_once, macs_once
from transpike.lowering.entrances import LookUp, in_ranges, of_step, of_window
from transpike.lowering.lowered import Lowered
from transpike.lowering.positions import positions


@dataclass(frozen=True, eq=False)
class Program:
    """The input of an engine: lowered form, encoder, schedule and readout."""

    lowered: Lowered
    encoder: Encoder
    schedule: Schedule
    readout: Readout
    prepared: dict[Any, Any] = field(default_factory=dict)
    """Cache of what engines derive from the program, by engine and device."""
    before: Graph | None = None
    """The analogue part before the spiking one; its output is the input of the run. It is only counted here."""

    def __post_init__(self) -> None:
        for kind, mode, text in (("phase", "cycles", "phase cycles"), ("time", "slots", "time slots")):
            if self.encoder.alphabet.kind == kind and self.schedule.mode != mode:
                raise SettingError(
                    f"{self.encoder.alphabet} input spikes need {text}, not {self.schedule}; use another encoder"
                )
        if not is_plain(self.schedule, Schedule):
            own = type(self.schedule)
            raise SettingError(
                f"{own.__name__} overrides {', '.join(own.altered)} of {own.__mro__[1].__name__}, but engines run the "
                f"mode {self.schedule.mode!r} as defined by {own.__mro__[1].__name__}; use {own.__mro__[1].__name__}"
            )
        for node in self.lowered.nodes:
            cell, period = node.op, getattr(node.op, "period", 0)
            if isinstance(cell, Cell) and (self.schedule.mode not in cell.modes or period != self.schedule.period):
                raise SettingError(
                    f"{node.name} ({cell.describe()}) does not work under {self.schedule}; such cells run in "
                    f"{' or '.join(cell.modes)}" + (f" with a period of {period}" if period else "")
                )
            if isinstance(cell, Cell) and cell.gain not in ("", self.schedule.gain):
                raise SettingError(
                    f"{node.name} ({cell.describe()}) sends differences with {cell.gain} gain, but {self.schedule} has "
                    f"another: use Differences(gain={cell.gain!r})"
                )

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes at which inputs enter."""
        return tuple(node for node in self.lowered.nodes if isinstance(node.op, Input))

    def sent(self, node: Node, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        """What an input node sends in step t, (batch, *shape)."""
        return of_step(self.encoder, self.inputs, node, x, sample_ids, t)

    def counts(self, node: Node, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        """The sum of what an input node sends in a window, (batch, *shape)."""
        return of_window(self.encoder, self.inputs, node, x, sample_ids, timesteps)

    def spikes(self, node: Node, x: Tensor, timesteps: int) -> Tensor | None:
        """The number of spikes of an input node in a window; None for other nodes, and if it equals |counts|."""
        if not isinstance(node.op, Input):
            return None
        found = self.encoder.spikes(in_ranges(self.inputs, x), timesteps)
        return None if found is None or isinstance(node.op, LookUp) else node.op.part(found)

    @cached_property
    def single_steps(self) -> bool:
        """True if windows must be stepped, even whole ones."""
        return any(node.op.single_steps for node in self.lowered.nodes if isinstance(node.op, Cell))

    def check_steps(self, timesteps: int) -> None:
        """Raises SettingError if a cell cannot run for ``timesteps`` steps."""
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
    def state_fans(self) -> dict[str, Tensor]:
        """The stored words of products that a spike reads, for the sources that have any; else as ``fans``."""
        found = self.state_fans_of(None)
        return {name: fan for name, fan in found.items() if bool(fan.any())}

    def state_fans_of(self, present: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """The stored words of products that a spike reads where only the elements ``present`` exist."""
        found = state_fans(self.lowered, present=present)
        return {name: fan.movedim(1, -1).flatten() for name, fan in found.items() if name in self.fans}

    @cached_property
    def positions(self) -> dict[str, Tensor]:
        """Wire → the position of the input sequence that each element waits for (``lowering.positions``)."""
        return positions(self.lowered)

    @cached_property
    def table(self) -> dict[str, Node]:
        return {node.name: node for node in self.lowered.nodes}

    @property
    def rest(self) -> Graph | None:
        """The analogue part after the spiking one, which the readout computes; None if there is none."""
        return self.readout.network if isinstance(self.readout, AnalogueRest) else None

    @cached_property
    def analogue(self) -> tuple[Graph, ...]:
        """The parts of a hybrid network that are computed once for each answer."""
        return tuple(part for part in (self.before, self.rest) if part is not None)

    @cached_property
    def macs_once(self) -> dict[str, int]:
        """Layer → multiplications per sample of the analogue parts."""
        return {name: macs for part in self.analogue for name, macs in macs_once(part).items()}

    def macs(self, times: int) -> dict[str, int]:
        """The remaining multiplications per sample of a run whose analogue layers are executed ``times`` times."""
        key = "macs", times  # finding those of operators of torch takes longer than a run of a small network
        if key not in self.prepared:
            self.prepared[key] = analogue_macs(self.lowered, times, self.encoder.is_constant) | self.macs_once
        return dict(self.prepared[key])

    @cached_property
    def boundary_fans(self) -> dict[str, Tensor]:
        """Fan-out of the layers whose spikes leave the spiking part of a hybrid network, as ``fans``."""
        found = {} if self.rest is None else boundary_fans(self.lowered)
        return {name: fan.movedim(1, -1).flatten() for name, fan in found.items()}

    @cached_property
    def watched(self) -> dict[str, Tensor]:
        """Layer → (neurons, columns): each column is a weight of every spike, and a run sums them. Not by all engines:
        the native kernels count without them.
        """
        return {}

    @cached_property
    def crossings(self) -> tuple[Crossing, ...]:
        """The boundaries of a hybrid network, before a run."""
        return crossings(self.lowered, self.before, self.rest)

    @cached_property
    def spiking_connections(self) -> tuple[Connection, ...]:
        """The layers of weights of the spiking part, which is all of a network that is not a hybrid."""
        return connections(self.lowered)

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """The layers of weights."""
        return (*self.spiking_connections, *(one for part in self.analogue for one in connections_once(part)))

    @cached_property
    def unpriced(self) -> dict[str, str]:
        """Layer → its operations per step other than multiplications and additions."""
        found = unpriced(self.lowered)
        return found | {name: text for part in self.analogue for name, text in unpriced(part).items()}

    @cached_property
    def evaluations(self) -> tuple[Evaluations, ...]:
        """The functions that cells evaluate, before a run."""
        found = []
        for node in self.lowered.nodes:
            shapes = tuple(self.table[name].shape for name in node.inputs)
            each = node.op.evaluations(shapes, node.shape) if isinstance(node.op, Cell) else {}
            if isinstance(node.op, Cell) and each:
                ones = [torch.ones((1, *shape), dtype=torch.bool) for shape in shapes]
                nothing = torch.zeros(0, dtype=torch.float64)
                found.append(Evaluations(node.name, each, 1, node.op.parts(*ones).shape[1], nothing))
        return (*found, *(one for part in self.analogue for one in evaluations_once(part)))

    @cached_property
    def layers(self) -> tuple[LayerActivity, ...]:
        """The spiking layers before a run; ``biases`` counts one addition of each bias."""
        nothing, found = torch.zeros(0, dtype=torch.float64), []
        for name, fan in self.fans.items():
            node, alphabet = self.table[name], self.lowered.alphabets[name]
            fires = isinstance(node.op, Neuron) and not node.op.is_delay
            role: Role = "neuron" if fires else "cell" if isinstance(node.op, Cell) else "input"
            unit = node.op.unit if isinstance(node.op, Cell) else None
            reads = int(self.state_fans[name].sum()) if name in self.state_fans else 0
            biases = 0
            if role == "neuron":
                shape = (1, *node.shape)
                biases = sum(int((b != 0).expand(shape).sum()) for b in self.lowered.biases[name])
            code = getattr(self.encoder, "code", None) if role == "input" else None
            found.append(
                LayerActivity(
                    name, node.op.describe(), role, fan.numel(), str(alphabet), nothing, nothing, 0,
                    synapses=int(fan.sum()) + reads, biases=biases, resets=int(unit is not None and unit.code is None),
                    payload_bits=alphabet.payload_bits, code=unit.code if unit is not None else code,
                )
            )  # fmt: skip
        return tuple(found)
