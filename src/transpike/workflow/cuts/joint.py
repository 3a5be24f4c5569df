"""One run for all cuts: the spiking network with every wire at which it can be cut as an output."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.core.answer import FunctionOfAnswer
from transpike.core.graph import Graph, Node
from transpike.core.readout import Readout
from transpike.core.structure import Branch, Leaf, Structure
from transpike.engines import Dense
from transpike.engines.counter import Counter
from transpike.lowering.program import Program
from transpike.ops.pack import Pack
from transpike.snn import SNN
from transpike.workflow.cuts.places import Place

Columns = Mapping[tuple[int, str, str], int | str | None]
"""(cut, layer, what is counted) → the column that has it, the name of a count of the whole network, or nothing."""


@dataclass(frozen=True)
class Sums(Readout):
    """Keeps what the readout ``inside`` keeps and gives no answer in between: the cuts are answered when asked."""

    inside: Readout

    @property
    def every_step(self) -> bool:  # type: ignore[override]
        return self.inside.every_step

    def init(self, output: Tensor) -> Tensor:
        return self.inside.init(output)

    def update(self, state: Tensor, output: Tensor, t: int) -> Tensor:
        return self.inside.update(state, output, t)

    def logits(self, state: Tensor, t: int) -> Tensor:
        return state.new_zeros((len(state), 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class JointProgram(Program):
    """The program of all cuts: it counts as the ``whole`` network does, and the ``columns`` of each layer."""

    whole: Program
    columns: dict[str, Tensor]

    @cached_property
    def fans(self) -> dict[str, Tensor]:
        return self.whole.fans

    @cached_property
    def state_fans(self) -> dict[str, Tensor]:
        return self.whole.state_fans

    @cached_property
    def watched(self) -> dict[str, Tensor]:
        return self.columns


def _all(program: Program, name: str) -> Tensor:
    """The operations of each spike of a layer, at weights and at stored states."""
    return program.fans[name] + program.state_fans.get(name, torch.zeros(()))


class Joint:
    """Runs ``snn`` once for all of its ``places``."""

    def __init__(self, snn: SNN, places: Sequence[Place]) -> None:
        self.snn, self.places, self.engine = snn, places, Dense()
        names = tuple(f"{number} {place.name}" for number, place in enumerate(places))
        wires = tuple(place.snn.graph.output for place in places)
        tree = Branch("tuple", tuple(range(len(wires))), tuple(map(Leaf, range(len(wires)))))
        self.structure = Structure(names, tuple(wire.shape for wire in wires), tree)
        pack = Node("cuts", Pack(self.structure), tuple(wire.name for wire in wires))
        self.inside: Readout = getattr(snn.readout, "inside", snn.readout)
        joined = replace(snn, graph=Graph((*snn.graph.nodes, pack)), calibrated_readout=Sums(self.inside), exit=None)
        program = joined.program
        given: dict[str, Any] = {field.name: getattr(program, field.name) for field in fields(Program)}
        self.where, columns = self._columns(snn.program)
        self.program = JointProgram(**given | {"prepared": {}}, whole=snn.program, columns=columns)

    def _columns(self, whole: Program) -> tuple[Columns, dict[str, Tensor]]:
        """Where the counts of each cut are found, and the columns that the run counts in addition."""
        columns: dict[str, list[Tensor]] = {}
        where: dict[tuple[int, str, str], int | str | None] = {}
        for number, place in enumerate(self.places):
            program = place.snn.program
            for name, fan in program.fans.items():
                counted = {
                    "operations": (_all(program, name), _all(whole, name)),
                    "reads": (program.state_fans.get(name), whole.state_fans.get(name)),
                    "crossed": (program.boundary_fans.get(name), torch.ones_like(fan)),
                }  # fmt: skip
                for what, (vector, known) in counted.items():
                    if vector is None or not bool(vector.any()):
                        where[number, name, what] = None
                    elif known is not None and torch.equal(vector, known):
                        where[number, name, what] = "sent" if what == "crossed" else what
                    else:
                        where[number, name, what] = len(columns.setdefault(name, []))
                        columns[name].append(vector)
        return where, {name: torch.stack(found, 1) for name, found in columns.items()}

    def answers(
        self, x: Tensor, ids: Tensor, steps: Sequence[int]
    ) -> Iterator[tuple[int, list[Tensor], list[Activity]]]:
        """(t, answers of all places, their activities) for a prepared batch after each of ``steps``, in order."""
        every, limit = self.snn.schedule.every_step, self.engine.batch_limit(self.program)
        found: dict[int, list[tuple[list[Tensor], list[Activity]]]] = {t: [] for t in steps}
        for start in range(0, len(x), limit):
            part = slice(start, start + limit)
            run = None
            for t in steps:
                if run is None or not every:
                    run = self.engine.start(self.program, x[part], ids[part], (), True)
                run.advance(t - run.t)
                assert run.reading is not None
                run.counter.settle()
                crossed = self.structure.split(self.inside.logits(run.reading, t))
                answers = [self._answer(place, value) for place, value in zip(self.places, crossed, strict=True)]
                counts = [self._counts(number, run.counter, run.x, t) for number in range(len(self.places))]
                found[t].append((answers, counts))
        for t, parts in found.items():
            answers = [torch.cat(values) for values in zip(*(one for one, _ in parts), strict=True)]
            counts = [sum(rest, first) for first, *rest in zip(*(one for _, one in parts), strict=True)]
            yield t, answers, counts

    def _answer(self, place: Place, value: Tensor) -> Tensor:
        readout = place.snn.readout
        return (readout.functions_of(value) if isinstance(readout, FunctionOfAnswer) else value).float()

    def _counts(self, number: int, run: Counter, x: Tensor, t: int) -> Activity:
        """The activity of a cut, of what the run of the whole network counted until t."""
        program = self.places[number].snn.program
        found = Counter(program, x.cpu(), (), True)

        def of(name: str, what: str) -> Tensor:
            place = self.where[number, name, what]
            if isinstance(place, int):
                return run.seen[name].since()[:t, place]
            sent = run.sent[name].since()[:t]
            return torch.zeros_like(sent) if place is None else getattr(run, place)[name].since()[:t]

        for name in found.fans:
            found.sent[name].add(run.sent[name].since()[:t])
            found.operations[name].add(of(name, "operations"))
            if name in found.reads:
                found.reads[name].add(of(name, "reads"))
            if name in found.active:
                found.active[name].add(run.active[name].since()[:t])
            if name in found.crossed:
                found.crossed[name].add(of(name, "crossed"))
        found.needed = {name: run.needed[name][:t] for name in found.needed}
        found.steps = t
        return found.activity()
