"""The result of ``transpike.break_even``: every network on the way, and whether one was cheap enough."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transpike.results.writing import write_atomically
from transpike.snn import SNN

SCHEMA = 1


@dataclass(frozen=True)
class Round:
    """One network: trained with a penalty of ``strength``, then converted and priced on ``samples`` held-out samples.

    Accuracies are 0 to 1: of the source network, of the spiking one at ``timesteps``, and of its quantised baseline.
    ``spike_rate`` is per neuron and step, ``density`` the share of the baseline's inputs that are not zero. ``ratios``:
    SNN / quantised ANN by energy model, of those that count.
    """

    strength: float
    ann_accuracy: float
    accuracy: float
    baseline_accuracy: float
    timesteps: int
    spike_rate: float
    spikes_per_synapse: float
    density: float
    ratios: dict[str, float]
    samples: int

    @property
    def cheaper(self) -> int:
        """Number of energy models under which the spiking network costs less."""
        return sum(ratio < 1 for ratio in self.ratios.values())

    def deciding(self, models: int) -> float:
        """The ratio that decides about ``models`` models: below 1 if at least that number favours the SNN."""
        return sorted(self.ratios.values())[models - 1]


@dataclass(frozen=True, eq=False)
class BreakEven:
    """``rounds`` by growing strength, the first without a penalty; ``chosen`` is the one whose weights the network has.

    It is the first that is cheaper under ``models`` energy models and loses at most ``max_drop`` against the source
    network of the first round (``reached``), else the most accurate one. ``snn``: the chosen network, converted.
    """

    models: int
    max_drop: float
    rounds: tuple[Round, ...]
    chosen: int
    reached: bool
    snn: SNN

    @property
    def least_accuracy(self) -> float:
        """The accuracy that a spiking network must have."""
        return self.rounds[0].ann_accuracy - self.max_drop

    def front(self) -> tuple[Round, ...]:
        """The rounds that no other one beats in both accuracy and deciding ratio, cheapest first."""
        ordered = sorted(self.rounds, key=lambda one: (one.deciding(self.models), -one.accuracy))
        found: list[Round] = []
        for one in ordered:
            if not found or one.accuracy > found[-1].accuracy:
                found.append(one)
        return tuple(found)

    @property
    def verdict(self) -> str:
        """One sentence: where it breaks even, or how far it is from it."""
        one, asked = self.rounds[self.chosen], f"{self.models} of {len(self.rounds[0].ratios)}"
        if self.reached:
            return (
                f"Cheaper than its quantised baseline under {one.cheaper} energy models ({asked} requested), at "
                f"{one.accuracy:.2%} (T={one.timesteps}, strength {one.strength:g})"
            )
        allowed = [one for one in self.rounds if one.accuracy >= self.least_accuracy]
        best = min(allowed, key=lambda one: one.deciding(self.models), default=None)
        if best is None:
            return f"No network reaches {self.least_accuracy:.2%}, not even the one without a penalty"
        return (
            f"No network that reaches {self.least_accuracy:.2%} is cheaper under {asked} energy models: under the "
            f"deciding model, the closest one costs {best.deciding(self.models):.3g} times as much as its quantised "
            f"baseline, at {best.accuracy:.2%} (strength {best.strength:g})"
        )

    def __str__(self) -> str:
        head = "strength  ANN      SNN      baseline  T    rate     density  cheaper  deciding ratio"
        lines = [self.verdict, "", head]
        for number, one in enumerate(self.rounds):
            mark = "*" if number == self.chosen else " "
            counted = f"{one.cheaper:>3} of {len(one.ratios):<3}"
            lines.append(
                f"{one.strength:<8g}{mark} {one.ann_accuracy:<8.2%} {one.accuracy:<8.2%} {one.baseline_accuracy:<9.2%} "
                f"{one.timesteps:<4} {one.spike_rate:<8.2%} {one.density:<8.2%} {counted} "
                f"{one.deciding(self.models):.3g}"
            )
        return "\n".join([*lines, f"{self.rounds[0].samples} held-out training samples; * the chosen one"])

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data, without the network."""
        rounds = [asdict(one) | {"cheaper": one.cheaper, "deciding": one.deciding(self.models)} for one in self.rounds]
        return {
            "schema": SCHEMA, "models": self.models, "max_drop": self.max_drop, "reached": self.reached,
            "verdict": self.verdict, "chosen": self.chosen, "front": [one.strength for one in self.front()],
            "rounds": rounds,
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, (json.dumps(self.to_json(), indent=1) + "\n").encode())
