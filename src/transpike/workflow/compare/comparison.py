"""The result of a comparison: one row for each recipe and number of time steps."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transpike.core.codec import decode
from transpike.core.recipe import Recipe
from transpike.core.task import Metric, Task
from transpike.errors import DataError
from transpike.results.notebook import Shown
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically
from transpike.snn import SNN
from transpike.tasks import Classification, metrics_json, metrics_of
from transpike.workflow.compare.pick import pick
from transpike.workflow.compare.rows import Cost, Difference, Entry, MeasuredRow, Refusal, Row, Scored, front

SCHEMA = 2
"""Version of the comparison's JSON, documented in docs/report-schema.md."""


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """``rows``: one for each recipe and number of steps, in the requested order, measured or not (Refusal).

    Measured rows are a Row each, or a MeasuredRow where the ``task`` has metrics. ``remarks`` about
    stored results; ``provenance``: origin of the numbers; ``warnings``: differences between these inputs and those of
    the calibration.
    """

    rows: tuple[Scored | Refusal, ...]
    samples: int
    timesteps: tuple[int, ...]
    engine: str
    remarks: tuple[str, ...]
    provenance: dict[str, Any]
    convert: Callable[[Recipe], SNN] = field(repr=False)
    """Converts the network of a recipe again, as for the rows."""
    warnings: tuple[str, ...] = ()
    task: Task = field(default_factory=Classification)

    @property
    def metric(self) -> Metric:
        """The first metric of the task, which rows are compared by."""
        return self.task.first

    @property
    def measured(self) -> tuple[Scored, ...]:
        return tuple(row for row in self.rows if isinstance(row, Scored))

    @property
    def refused(self) -> tuple[Refusal, ...]:
        return tuple(row for row in self.rows if isinstance(row, Refusal))

    @property
    def ann(self) -> dict[str, Any] | None:
        """``accuracy`` of the source network with its 95 % bounds ``low`` and ``high``, or ``metrics``; ``macs``."""
        if not self.measured:
            return None
        first = self.measured[0]
        if isinstance(first, MeasuredRow):
            return {"metrics": {n: dataclasses.asdict(one) for n, one in first.ann.items()}, "macs": first.ann_macs}
        assert isinstance(first, Row)
        low, high = wilson(round(first.ann_accuracy * self.samples), self.samples)
        return {"accuracy": first.ann_accuracy, "low": low, "high": high, "macs": first.ann_macs}

    def front(self, cost: Cost = "total_steps") -> tuple[Scored, ...]:
        """The Pareto front of the first metric and ``cost`` (or "synaptic_operations"), cheapest first."""
        return front(self.measured, cost)

    def pick(self, text: str) -> Scored:
        """The row selected by text like ``"drop<=1 steps<=32 min=synops"``.

        Conditions ``accuracy`` (%), ``drop`` (percentage points), ``steps`` (total), ``synops``, ``spikes``, ``macs``,
        ``rate`` with ``<=`` or ``>=``; ``alphabet=binary|ternary|levels|phase|graded`` (of every neuron),
        ``signed=yes|no``, ``training-free=yes|no``; and one objective, ``min=`` one of them or ``max=accuracy``. A task
        with metrics has its metrics in place of the accuracy, like ``mean-iou>=60``, ``min=mse``; ``drop`` is how much
        worse than the source network the first one is, in points of a share or in its unit. Ties are resolved by fewer
        total steps, fewer synaptic operations, a better first metric, and order.

        Raises SettingError for unknown words, GateFailed with the closest rows where none satisfies the conditions.
        """
        return pick(self.measured, text, metrics_of(self.task))

    def snn(self, row: Scored) -> SNN:
        """The network of a row, converted again, for the row's number of steps: ``evaluate`` reproduces the row.

        A network converted for a longer run keeps the grid of that run.
        """
        recipe = dataclasses.replace(row.made_by, timesteps=row.timesteps)  # type: ignore[type-var]
        policy = decode(row.policy, {}) if isinstance(row, Row) and row.policy is not None else None
        made = self.convert(row.made_by)
        return dataclasses.replace(made, recipe=recipe, grid_timesteps=row.made_by.timesteps, exit=policy)

    def difference(self, first: str, second: str, total_steps: int) -> Difference:
        """How much better one recipe is than another in the first metric, of their answers by ``total_steps``.

        Recipes are named as in the rows. The interval is paired on the same samples (``Task.gain``).
        Raises DataError for an unknown recipe, or one without an answer after that time.
        """
        one, other = (self._by_then(name, total_steps).judged for name in (first, second))
        gained, low, high = map(self.metric.shown_or_none, self.task.gain(one, other))
        return Difference(gained, low, high, self.samples)

    def _by_then(self, recipe: str, total_steps: int) -> Scored:
        found = [row for row in self.measured if row.recipe == recipe and row.total_steps <= total_steps]
        if not found:
            names = ", ".join(dict.fromkeys(f"{r.recipe} (from {r.total_steps} steps)" for r in self.measured[::-1]))
            raise DataError(f"{recipe!r} has no answer within {total_steps} steps; available are {names}")
        return max(found, key=lambda row: row.total_steps)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data, schema version ``SCHEMA``."""
        fronts = {"total_steps": self.front(), "synaptic_operations": self.front("synaptic_operations")}

        def row(entry: Entry) -> dict[str, Any]:
            names = [name for name, members in fronts.items() if entry in members]
            return entry.to_json() | ({"front": names} if isinstance(entry, Scored) else {})

        return {
            "schema": SCHEMA,
            "kind": "comparison",
            "samples": self.samples,
            "timesteps": list(self.timesteps),
            "engine": self.engine,
            **metrics_json(self.task),
            "ann": self.ann,
            "rows": [row(entry) for entry in self.rows],
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "provenance": self.provenance,
        }

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())
