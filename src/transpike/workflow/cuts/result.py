"""The result of ``transpike.cuts``: a network cut after each of its layers, with both sides counted."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from transpike.core.task import ACCURACY, Metric
from transpike.results.notebook import Shown
from transpike.results.writing import write_atomically
from transpike.workflow.evaluate.hybrid import Hybrid

SCHEMA = 1


@dataclass(frozen=True)
class CutRow:
    """The network cut after the layer ``behind``, after ``timesteps`` steps: its metric and both of its sides.

    ``kind``: "cut"; "spiking", the whole network without a cut; "analogue", the source network, with 0 steps.
    ``sides.spiking`` are the patterns for ``convert(spiking=)``. ``value``, of the first metric of the task, has a 95 %
    interval from ``low`` to ``high``; ``worse`` is the difference to the source network on the same samples, positive
    where this network is worse.
    """

    behind: str
    kind: str
    timesteps: int
    total_steps: int
    value: float | None
    low: float | None
    high: float | None
    worse: float | None
    sides: Hybrid

    def joule(self, model: str) -> float | None:
        """Joules per sample of both sides; None where the model does not apply."""
        pair = self.sides.energy_joule[model]
        return None if pair is None else sum(pair)

    @property
    def title(self) -> str:
        """The cut in words."""
        if self.kind == "cut":
            return f"cut after {self.behind}, T={self.timesteps}"
        return "nothing spikes (ANN)" if self.kind == "analogue" else f"all spikes, T={self.timesteps}"


@dataclass(frozen=True, eq=False)
class Cuts(Shown):
    """``rows``: the source network, every cut from the input on, and the whole spiking network, at every answer.

    ``models``: names of the energy models, the first one for verdicts. Multiplications of the analogue side are counted
    as they are, 8-bit factors, without skipping zeros; what crosses between the sides has no price.
    """

    rows: tuple[CutRow, ...]
    samples: int
    recipe: str
    models: tuple[str, ...]
    metric: Metric = ACCURACY
    task: str = "classification"
    room: float = 0.005
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def ann(self) -> CutRow:
        """The source network."""
        return self.rows[0]

    @property
    def timesteps(self) -> int:
        """The longest run."""
        return max(row.timesteps for row in self.rows)

    def front(self, model: str | None = None) -> tuple[CutRow, ...]:
        """The Pareto front of metric and joules by ``model`` (default: the first one), cheapest first."""
        name, best, found = model or self.models[0], float("-inf"), list[CutRow]()
        priced = [
            (joule, self.metric.rank(row.value), row) for row in self.rows if (joule := row.joule(name)) is not None
        ]
        for _, rank, row in sorted(priced, key=lambda one: (one[0], -one[1])):
            if rank > best:
                found.append(row)
                best = rank
        return tuple(found)

    def proposed(self, model: str | None = None) -> CutRow | None:
        """The cheapest row by ``model`` that is at most ``room`` worse than the source network; None without one."""
        least = self.metric.rank(self.ann.value) - self.room - 1e-12
        return next((row for row in self.front(model) if self.metric.rank(row.value) >= least), None)

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        proposed = {name: self.proposed(name) for name in self.models}
        return {
            "schema": SCHEMA, "kind": "cuts", "recipe": self.recipe, "task": self.task, "samples": self.samples,
            "metric": dataclasses.asdict(self.metric), "room": self.room,
            "rows": [
                {**dataclasses.asdict(row), "sides": row.sides.to_json(), "front": self._fronts(row)}
                for row in self.rows
            ],
            "proposed": {name: None if row is None else row.title for name, row in proposed.items()},
            "warnings": list(self.warnings), "remarks": list(self.remarks),
        }  # fmt: skip

    def _fronts(self, row: CutRow) -> list[str]:
        return [name for name in self.models if row in self.front(name)]

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())
