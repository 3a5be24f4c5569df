"""What the batches of an explanation add up to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike.workflow.explain.layer_errors import LayerSums


@dataclass(frozen=True, eq=False)
class Compared:
    """Results of one batch: judged samples of the network, of changed networks, and the sums of each layer."""

    right: Tensor
    sums: dict[str, LayerSums]
    originals: dict[str, Tensor] = field(default_factory=dict)
    renewed: dict[tuple[str, str], Tensor] = field(default_factory=dict)


class Rows:
    """Judged samples."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def merge(self, rows: Tensor) -> None:
        """Add those of the next batch."""
        self.parts.append(rows)

    def joined(self) -> Tensor:
        """Those of all batches."""
        return torch.cat(self.parts)

    def state(self) -> Tensor:
        """As plain data."""
        return self.joined()

    def restore(self, state: Tensor) -> None:
        """Take what ``state`` gave."""
        self.parts = [state]


class ComparedTally:
    """``sums`` of each layer, which are added to, and judged samples (``Task.rows``): of the network, per layer
    replaced by its original, and per (part, layer) replaced.
    """

    def __init__(self, sums: dict[str, LayerSums]) -> None:
        self.sums, self.right = sums, Rows()
        self.originals: dict[str, Rows] = {}
        self.renewed: dict[tuple[str, str], Rows] = {}
        self.simulations = 0
        """Results of the last batch."""

    def merge(self, found: Compared) -> None:
        """Add the next batch."""
        self.right.merge(found.right)
        for name, part in found.sums.items():
            self.sums[name].merge(part)
        for name, rows in found.originals.items():
            self.originals.setdefault(name, Rows()).merge(rows)
        for key, rows in found.renewed.items():
            self.renewed.setdefault(key, Rows()).merge(rows)
        self.simulations = 1 + len(found.originals) + len(found.renewed)

    def found(self) -> tuple[Tensor, dict[str, Tensor], dict[tuple[str, str], Tensor]]:
        """Judged samples of all batches."""
        originals = {name: rows.joined() for name, rows in self.originals.items()}
        return self.right.joined(), originals, {key: rows.joined() for key, rows in self.renewed.items()}

    def state(self) -> tuple[Any, ...]:
        """What was added, as plain data."""
        right, originals, renewed = self.found()
        sums = {name: part.state() for name, part in self.sums.items()}
        return right, sums, originals, tuple((*key, rows) for key, rows in renewed.items())

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take what ``state`` gave."""
        right, sums, originals, renewed = state
        self.right.restore(right)
        for name, part in self.sums.items():
            part.restore(sums[name])
        self.originals = _restored(originals.items())
        self.renewed = _restored(((part, name), rows) for part, name, rows in renewed)


def _restored(items: Iterable[tuple[Any, Tensor]]) -> dict[Any, Rows]:
    found: dict[Any, Rows] = {}
    for key, rows in items:
        found[key] = Rows()
        found[key].restore(rows)
    return found
