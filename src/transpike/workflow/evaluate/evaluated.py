"""The common part of the results of all evaluations."""

import dataclasses
import json
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from transpike.core.activity import Activity
from transpike.errors import DataError
from transpike.results.notebook import Shown
from transpike.results.writing import write_atomically
from transpike.workflow.evaluate.fidelity import Closeness
from transpike.workflow.evaluate.hybrid import Hybrid
from transpike.workflow.evaluate.pictures import Picture


@dataclass(frozen=True)
class LayerRow:
    """Counts of one layer, per sample; ``spike_rate`` is spikes per neuron and time step.

    ``product_operations`` are those of the synaptic operations that read the state of a product of two wires.
    ``active_positions``: the share of a layer's positions (tokens, pixels) that sent a spike in each step, of layers
    that send differences: what has settled costs nothing.
    """

    name: str
    op: str
    role: str
    neurons: int
    alphabet: str
    spike_rate: float
    spikes: float
    synaptic_operations: float
    membrane_updates: float
    product_operations: float = 0.0
    active_positions: tuple[float, ...] = ()


Score = tuple[float | None, float | None, float | None]
"""The first metric of the task, with its 95 % interval; None where it is not defined."""


class Timed(Protocol):
    """An answer: after which number of time steps, how much fired until then, and how good it is."""

    @property
    def timesteps(self) -> int: ...
    @property
    def spike_rate(self) -> float: ...
    @property
    def score(self) -> Score: ...


One = TypeVar("One", bound=Timed)


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluated(Shown, Generic[One]):
    """The run that an evaluation measured; counts per sample. ``curve`` has one answer for each t.

    ``kernels``: layer → kernel, where the engine chooses. ``activities`` (timesteps →): input of energy models, not in
    the JSON. ``unpriced``: layer → operations other than multiplications and additions, which neither ``macs`` nor
    joules include. ``evaluations``: function → its evaluations per sample in the ANN ("ann"), as the run executes them
    ("executed"), and only where an input changed ("changed"). ``fidelity``: closeness of every answer to the source
    network's, of the output that the task judges; ``outputs``: of each of several outputs by name. ``warnings``:
    differences between these inputs and those of the calibration; every presentation begins with them. ``pictures``:
    the first samples with what the answers mark in them, for tasks that draw it (``Task.marks``); not in the JSON.
    ``hybrid``: both sides of a hybrid network at the last answer, None if all of the network spikes.
    """

    recipe: str
    schedule: str
    engine: str
    kernels: dict[str, str]
    samples: int
    ann_macs: int
    curve: tuple[One, ...]
    layers: tuple[LayerRow, ...]
    macs: dict[str, int]
    exact: bool
    exact_why: str
    ties: int
    grid: dict[str, Any]
    encoder: str
    readout: str
    remarks: tuple[str, ...]
    provenance: dict[str, Any]
    activities: dict[int, Activity] = field(default_factory=dict, repr=False)
    unpriced: dict[str, str] = field(default_factory=dict)
    evaluations: dict[str, dict[str, float]] = field(default_factory=dict)
    task: str = "classification"
    fidelity: tuple[Closeness, ...] = ()
    outputs: dict[str, tuple[Closeness, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    hybrid: Hybrid | None = None

    @property
    def final(self) -> One:
        """The last answer."""
        return self.curve[-1]

    @property
    def timesteps(self) -> int:
        """T of the last answer, which the counts of layers belong to."""
        return self.final.timesteps

    @property
    def spike_rate(self) -> float:
        """Spikes per neuron and time step over all neurons."""
        return self.final.spike_rate

    def at(self, timesteps: int) -> One:
        """The answer after ``timesteps`` steps. Raises DataError where there is none."""
        for answer in self.curve:
            if answer.timesteps == timesteps:
                return answer
        raise DataError(f"the result has no answer at T={timesteps}; it has {[a.timesteps for a in self.curve]}")

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The result as plain data."""

    def head(self, schema: int) -> dict[str, Any]:
        """The beginning of the JSON that every evaluation has."""
        names = ("recipe", "schedule", "engine", "kernels", "samples", "task")
        return {"schema": schema, **{name: getattr(self, name) for name in names}}

    def counts(self) -> dict[str, Any]:
        """The part of the JSON that every evaluation has."""
        return {
            "fidelity": [dataclasses.asdict(one) for one in self.fidelity],
            "outputs": {name: [dataclasses.asdict(one) for one in rows] for name, rows in self.outputs.items()},
            "layers": [dataclasses.asdict(row) for row in self.layers],
            "synaptic_operations": sum(row.synaptic_operations for row in self.layers),
            "product_operations": sum(row.product_operations for row in self.layers),
            "membrane_updates": sum(row.membrane_updates for row in self.layers),
            "macs": sum(self.macs.values()),
            "analogue_layers": self.macs,
            "unpriced": self.unpriced,
            "evaluations": self.evaluations,
            "encoder": self.encoder,
            "readout": self.readout,
            **({} if self.hybrid is None else {"hybrid": self.hybrid.to_json()}),
            "exact": {"holds": self.exact, "why": self.exact_why, "ties": self.ties, **self.grid},
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "provenance": self.provenance,
        }

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())
