"""The result of an evaluation."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike.results.statistics import change, paired_difference
from transpike.workflow.evaluate.evaluated import Evaluated
from transpike.workflow.evaluate.exit_report import ExitReport
from transpike.workflow.evaluate.latency import Latency, latency

SCHEMA = 2
"""Version of the report's JSON, documented in docs/report-schema.md."""
NEAR = 0.005
"""The recommended answer is at most this much less accurate than the last one."""


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

    @property
    def score(self) -> tuple[float, float, float]:
        return self.accuracy, self.low, self.high


@dataclass(frozen=True, eq=False, kw_only=True)
class Report(Evaluated[Answer]):
    """Results of an evaluation. ``curve`` has one answer for each t; fractions in [0, 1], counts per sample.

    ``outcomes`` (timesteps → (samples,) bool) and ``ann_outcomes``: which samples are correct, for paired comparisons;
    these are not in the JSON. ``exit``: results of the early exit, where the network has a policy.
    """

    ann_accuracy: float
    ann_low: float
    ann_high: float
    outcomes: dict[int, Tensor] = field(repr=False)
    ann_outcomes: Tensor = field(repr=False)
    exit: ExitReport | None = None
    exit_outcomes: Tensor | None = field(default=None, repr=False)

    @property
    def rows(self) -> dict[int, Tensor]:
        """``outcomes``, as the task takes them."""
        return self.outcomes

    @property
    def ann_rows(self) -> Tensor:
        """``ann_outcomes``, as the task takes them."""
        return self.ann_outcomes

    @property
    def recommended(self) -> Answer:
        """The answer that verdicts are about: the first one at most half a percentage point below the last one.

        Only an answer with spikes is recommended, unless the last one has none either.
        """
        least = self.final.accuracy - NEAR - 1e-12
        return next((a for a in self.curve if a.accuracy >= least and a.spike_rate > 0), self.final)

    @property
    def drop(self) -> float:
        """ANN minus SNN accuracy at the last answer."""
        return self.ann_accuracy - self.final.accuracy

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

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, schema version ``SCHEMA``; changes of accuracy are SNN minus ANN."""
        low, high = self.drop_interval
        return {
            **self.head(SCHEMA),
            "ann": {"accuracy": self.ann_accuracy, "low": self.ann_low, "high": self.ann_high, "macs": self.ann_macs},
            "snn": {
                "timesteps": self.final.timesteps,
                "total_steps": self.final.total_steps,
                "accuracy": self.final.accuracy,
                "accuracy_change": change(self.drop),
                "accuracy_change_low": change(high),
                "accuracy_change_high": change(low),
                "recommended": self.recommended.timesteps,
                "latency": dataclasses.asdict(self.latency),
                "spike_rate": self.spike_rate,
                "curve": [dataclasses.asdict(answer) for answer in self.curve],
            },
            "exit": None if self.exit is None else self.exit.to_json(),
            **self.counts(),
        }
