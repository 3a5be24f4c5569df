"""The result of an evaluation."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.errors import DataError
from transpike.results.notebook import Shown
from transpike.results.statistics import paired_difference
from transpike.results.writing import write_atomically
from transpike.workflow.evaluate.exit_report import ExitReport
from transpike.workflow.evaluate.latency import Latency, latency

SCHEMA = 1
"""Version of the report's JSON, documented in docs/report-schema.md."""


@dataclass(frozen=True)
class Answer:
    """Accuracy after ``timesteps`` steps, ready after ``total_steps``; ``low`` and ``high`` are 95 % bounds.

    Counts are per sample, over all layers, up to this answer; ``macs`` are the remaining MACs.
    ``energy_joule``: joules by name of the model, None where a model does not apply to this network.
    """

    timesteps: int
    total_steps: int
    accuracy: float
    low: float
    high: float
    agreement: float
    synaptic_operations: float
    spikes: float
    spike_rate: float
    macs: int
    energy_joule: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerRow:
    """Counts of one layer, per sample; ``spike_rate`` is spikes per neuron and time step."""

    name: str
    op: str
    role: str
    neurons: int
    alphabet: str
    spike_rate: float
    spikes: float
    synaptic_operations: float
    membrane_updates: float


@dataclass(frozen=True, eq=False)
class Report(Shown):
    """Results of an evaluation. ``curve`` has one answer for each t; fractions in [0, 1], counts per sample.

    ``kernels``: layer → kernel, where the engine chooses. ``outcomes`` (timesteps → (samples,) bool) and
    ``ann_outcomes``: which samples are correct, for paired comparisons; ``activities`` (timesteps →): input of energy
    models; these are not in the JSON. ``unpriced``: layer → operations other than multiplications and additions, which
    neither ``macs`` nor joules include. ``exit``: results of the early exit, where the network has a policy.
    """

    recipe: str
    schedule: str
    engine: str
    kernels: dict[str, str]
    samples: int
    ann_accuracy: float
    ann_low: float
    ann_high: float
    ann_macs: int
    curve: tuple[Answer, ...]
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
    outcomes: dict[int, Tensor] = field(repr=False)
    ann_outcomes: Tensor = field(repr=False)
    activities: dict[int, Activity] = field(default_factory=dict, repr=False)
    unpriced: dict[str, str] = field(default_factory=dict)
    exit: ExitReport | None = None
    exit_outcomes: Tensor | None = field(default=None, repr=False)
    task: str = "classification"

    @property
    def final(self) -> Answer:
        return self.curve[-1]

    @property
    def drop(self) -> float:
        """ANN minus SNN accuracy at the last answer."""
        return self.ann_accuracy - self.final.accuracy

    @property
    def spike_rate(self) -> float:
        """Spikes per neuron and time step over all neurons."""
        return self.final.spike_rate

    @property
    def drop_interval(self) -> tuple[float, float]:
        """95 % bounds of ``drop``, paired on the same samples."""
        return paired_difference(self.ann_outcomes, self.outcomes[self.final.timesteps])[1:]

    @property
    def latency(self) -> Latency:
        """Time until answers are accurate enough, and until they are stable and correct."""
        steps = tuple(answer.total_steps for answer in self.curve)
        below = tuple(self.ann_accuracy - answer.accuracy for answer in self.curve)
        return latency(steps, below, torch.stack([self.outcomes[answer.timesteps] for answer in self.curve]))

    def at(self, timesteps: int) -> Answer:
        """The answer after ``timesteps`` steps."""
        for answer in self.curve:
            if answer.timesteps == timesteps:
                return answer
        raise DataError(f"the report has no answer at T={timesteps}; it has {[a.timesteps for a in self.curve]}")

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, schema version ``SCHEMA``."""
        return {
            "schema": SCHEMA,
            "recipe": self.recipe,
            "schedule": self.schedule,
            "engine": self.engine,
            "kernels": self.kernels,
            "samples": self.samples,
            "task": self.task,
            "ann": {"accuracy": self.ann_accuracy, "low": self.ann_low, "high": self.ann_high, "macs": self.ann_macs},
            "snn": {
                "timesteps": self.final.timesteps,
                "total_steps": self.final.total_steps,
                "accuracy": self.final.accuracy,
                "drop": self.drop,
                "drop_low": self.drop_interval[0],
                "drop_high": self.drop_interval[1],
                "latency": dataclasses.asdict(self.latency),
                "spike_rate": self.spike_rate,
                "curve": [dataclasses.asdict(answer) for answer in self.curve],
            },
            "exit": None if self.exit is None else dataclasses.asdict(self.exit),
            "layers": [dataclasses.asdict(row) for row in self.layers],
            "synaptic_operations": sum(row.synaptic_operations for row in self.layers),
            "membrane_updates": sum(row.membrane_updates for row in self.layers),
            "macs": sum(self.macs.values()),
            "analogue_layers": self.macs,
            "unpriced": self.unpriced,
            "encoder": self.encoder,
            "readout": self.readout,
            "exact": {"holds": self.exact, "why": self.exact_why, "ties": self.ties, **self.grid},
            "remarks": list(self.remarks),
            "provenance": self.provenance,
        }

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())
