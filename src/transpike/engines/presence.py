"""Networks whose sequence grows: elements that do not exist yet send nothing and are not computed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell


class Presence:
    """Which elements of every wire exist: those that wait for a position that has arrived.

    ``waits``: wire → the position that each element waits for, (1, *shape). ``now`` positions have arrived, ``before``
    of them before the last ones: elements of the others are fresh in the next step, and send then what they hold.
    Constants (biases, additive masks) are there from the first step on, for all elements.
    """

    def __init__(self, waits: Mapping[str, Tensor]) -> None:
        self.waits = waits
        self.before, self.now = -1, 0  # at first constants, which wait for nothing, are fresh too

    def present(self, name: str) -> Tensor:
        return self.waits[name] < self.now

    def fresh(self, name: str) -> Tensor:
        """The elements that begin in the next step."""
        waits = self.waits[name]
        return (waits >= self.before) & (waits < self.now)

    @property
    def grows(self) -> bool:
        """Whether elements begin in the next step."""
        return self.before < self.now

    def arrived(self) -> None:
        """The next step is over."""
        self.before = self.now

    def begin(self, name: str, cell: Cell, state: Any) -> tuple[Any, Tensor | None]:
        """``Cell.unsent`` of the elements that begin."""
        return cell.unsent(state, self.fresh(name)) if self.grows else (state, None)

    def sent(self, name: str, output: Tensor, owed: Tensor | None) -> Tensor:
        """What is really sent of ``output``, (…, *shape)."""
        output = output if owed is None else output + owed
        return output * self.present(name)

    def changed(self, wires: Sequence[str], messages: Sequence[Tensor], first: bool) -> list[Tensor]:
        """Which elements that exist have changed, by these messages (batch, *shape) or because they begin."""
        found = []
        for name, message in zip(wires, messages, strict=True):
            changed = (message != 0) & self.present(name)
            found.append(changed | self.fresh(name) if first else changed)
        return found

    def count(self, name: str) -> int:
        """The elements of a wire that exist."""
        return int(self.present(name).sum())

    def to(self, device: torch.device) -> "Presence":
        self.waits = {name: value.to(device) for name, value in self.waits.items()}
        return self
