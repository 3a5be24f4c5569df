"""Results of an early exit: answers, steps and costs of every sample up to its stop."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.core.exit import ExitPolicy
from transpike.core.task import OutcomeTask
from transpike.energy import EnergyModel
from transpike.results.statistics import changes, paired_difference, wilson
from transpike.snn import SNN

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class ExitReport:
    """Early exit, compared with the fixed run of T = ``timesteps``; steps are total steps, counts are per sample.

    ``accuracy`` with Wilson's 95 % bounds; ``full_accuracy`` is that of the fixed run, ``drop`` the difference (fixed
    minus early) with paired bounds, ``agreement`` the share of answers equal to the ANN's. ``lost``: share of samples
    that are correct at T and not at their stop; ``gained`` the opposite. ``promised``: the guaranteed bound of
    ``lost`` (with ``confidence``, from ``fitted_on`` other samples); ``kept``: whether it holds here. ``equal_steps``:
    the first total steps at which the fixed run is as accurate; ``share``: the mean steps divided by them. ``stopped``:
    step → share of samples that stopped there. The oracle stops at the first correct answer, or at T where there is
    none: ``oracle_accuracy``, ``oracle_steps`` (the empirical average exit time).
    """

    score: str
    timesteps: int
    accuracy: float
    low: float
    high: float
    full_accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    agreement: float
    lost: float
    gained: float
    promised: float
    confidence: float
    fitted_on: int
    kept: bool
    mean_steps: float
    quantiles: dict[str, int]
    equal_steps: int
    share: float
    stopped: dict[int, float]
    spikes: float
    spike_rate: float
    synaptic_operations: float
    macs: float
    energy_joule: dict[str, float | None] = field(default_factory=dict)
    oracle_accuracy: float = 0.0
    oracle_steps: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Every number; the change of accuracy is early minus fixed."""
        return changes(asdict(self))


class ExitTally:
    """Adds up batches: the stop of each sample, whether its answer is correct, and the activity until the stop."""

    def __init__(self, policy: ExitPolicy, task: OutcomeTask) -> None:
        self.policy, self.task = policy, task
        self.stops: list[Tensor] = []
        self.early: list[Tensor] = []
        self.same = 0
        self.right: list[Tensor] = []  # (T, batch)
        self.activities: dict[int, Activity] = {}

    def add(self, snn: SNN, x: Tensor, y: Tensor, ids: Tensor, logits: Tensor, ann: Tensor, engine: Any) -> None:
        """``x`` as ``snn.prepare`` returned it, ``logits`` (timesteps, batch, classes) of every step.

        ``ann`` are the logits (batch, classes) of the source network.

        Runs samples that stop early again, to count their activity.
        """
        logits = logits[: self.policy.timesteps]
        right, same = self.task.outcomes(logits, y).cpu(), self.task.agrees(logits, ann).cpu()
        stops = self.policy.stops(logits).cpu()
        self.stops.append(stops)
        self.right.append(right)
        self.early.append(right.gather(0, stops[None] - 1)[0])
        self.same += int(same.gather(0, stops[None] - 1).sum())
        for step in stops.unique().tolist():
            chosen = stops == step
            part = x[chosen.to(x.device)]
            activity = snn.run_prepared(part, step, engine, ids[chosen], (), True).activity
            self.activities[step] = self.activities[step] + activity if step in self.activities else activity

    def merge(self, part: "ExitTally") -> None:
        """Add the tally of the next batch."""
        self.stops, self.early, self.right = self.stops + part.stops, self.early + part.early, self.right + part.right
        self.same += part.same
        for step, activity in part.activities.items():
            self.activities[step] = self.activities[step] + activity if step in self.activities else activity

    def state(self) -> tuple[Any, ...]:
        """What was added."""
        rows = torch.cat(self.stops), torch.cat(self.early), torch.cat(self.right, 1)
        return (*rows, self.same, tuple(self.activities.items()))

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take what ``state`` gave."""
        stops, early, right, self.same, activities = state
        self.stops, self.early, self.right = [stops], [early], [right]
        self.activities = dict(activities)

    def report(self, snn: SNN, models: tuple[EnergyModel, ...]) -> ExitReport:
        stops, early, right = torch.cat(self.stops), torch.cat(self.early), torch.cat(self.right, 1)
        n, policy, full = len(stops), self.policy, right[-1]
        ready = torch.tensor([snn.total_steps(t) for t in range(1, policy.timesteps + 1)])
        steps = ready[stops - 1].double()
        correct = int(early.sum())
        lost = float((full & ~early).double().mean())
        first = torch.where(right.any(0), right.byte().argmax(0), policy.timesteps - 1)
        equal = int(ready[(right.sum(1) >= correct).byte().argmax()]) if bool((right.sum(1) >= correct).any()) else 0
        parts = list(self.activities.values())
        fired = sum(float(r.spikes.sum()) for part in parts for r in part.layers if r.role == "neuron")
        chances = sum(part.neurons * part.samples * step for step, part in self.activities.items())
        drop, low, high = paired_difference(full, early)
        return ExitReport(
            score=type(policy.score).__name__.lower(),
            timesteps=policy.timesteps,
            accuracy=correct / n,
            low=wilson(correct, n)[0],
            high=wilson(correct, n)[1],
            full_accuracy=float(full.double().mean()),
            drop=drop,
            drop_low=low,
            drop_high=high,
            agreement=self.same / n,
            lost=lost,
            gained=float((~full & early).double().mean()),
            promised=policy.drop,
            confidence=policy.confidence,
            fitted_on=policy.samples,
            kept=lost <= policy.drop,
            mean_steps=float(steps.mean()),
            quantiles={f"p{100 * q:.0f}": int(steps.quantile(q, interpolation="higher")) for q in QUANTILES},
            equal_steps=equal or int(ready[-1]),
            share=float(steps.mean()) / (equal or int(ready[-1])),
            stopped={int(t): float((stops == t).double().mean()) for t in stops.unique().tolist()},
            spikes=sum(float(row.spikes.sum()) for part in parts for row in part.layers) / n,
            spike_rate=fired / chances if chances else 0.0,
            macs=sum(sum(part.macs.values()) * part.samples for part in parts) / n,
            synaptic_operations=sum(float(r.synaptic_operations.sum()) for part in parts for r in part.layers) / n,
            energy_joule={str(model): _joule(model, parts, n) for model in models},
            oracle_accuracy=float(right.any(0).double().mean()),
            oracle_steps=float(ready[first].double().mean()),
        )


def _joule(model: EnergyModel, parts: list[Activity], samples: int) -> float | None:
    """The mean over samples with different run times; models give joules per sample."""
    found = [(model.joule(part), part.samples) for part in parts]
    if any(joule is None for joule, _ in found):
        return None
    return sum((joule or 0.0) * count for joule, count in found) / samples
