"""The result of an evaluation by a task that measures its answers, as a regression."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from transpike.core.task import Metric
from transpike.workflow.evaluate.evaluated import Evaluated, Score

SCHEMA = 1
"""Version of the measurement's JSON, documented in docs/report-schema.md."""


@dataclass(frozen=True)
class Estimate:
    """A metric or a change of one, with its 95 % interval; None where it is not defined, as of too few samples."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MeasuredAnswer:
    """The metrics after ``timesteps`` steps, ready after ``total_steps``, and their ``changes``, SNN minus ANN.

    Both by the name of the metric; ``changes`` is empty where the source network is the reference. Counts are per
    sample, over all layers, up to this answer, as those of ``Answer``.
    """

    timesteps: int
    total_steps: int
    metrics: dict[str, Estimate]
    changes: dict[str, Estimate]
    synaptic_operations: float
    spikes: float
    spike_rate: float
    macs: int
    energy_joule: dict[str, float | None] = field(default_factory=dict)

    @property
    def score(self) -> Score:
        """The first metric, with its interval."""
        one = next(iter(self.metrics.values()))
        return one.value, one.low, one.high


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement(Evaluated[MeasuredAnswer]):
    """Results of an evaluation in the metrics of its task, the first one for verdicts; ``curve`` has one answer for
    each t.

    ``ann``: metrics of the source network, empty where it is the reference. Intervals are 95 % percentiles of 1000
    resamplings of the samples; those of changes resample both networks together. ``recommended``: the first answer with
    spikes whose first metric is at most the task's room worse than that of the last one; ``room``: that room in words.
    ``rows`` (timesteps → (samples, …)) and ``ann_rows``: the task's statistics of the samples, not in the JSON.
    """

    metrics: tuple[Metric, ...]
    ann: dict[str, Estimate]
    recommended: MeasuredAnswer
    room: str
    rows: dict[int, Tensor] = field(repr=False)
    ann_rows: Tensor = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.head(SCHEMA),
            "metrics": [dataclasses.asdict(metric) for metric in self.metrics],
            "ann": {
                "metrics": {name: dataclasses.asdict(one) for name, one in self.ann.items()},
                "macs": self.ann_macs,
            },
            "snn": {
                "timesteps": self.final.timesteps,
                "total_steps": self.final.total_steps,
                "recommended": self.recommended.timesteps,
                "room": self.room,
                "spike_rate": self.spike_rate,
                "curve": [dataclasses.asdict(answer) for answer in self.curve],
            },
            **self.counts(),
        }
