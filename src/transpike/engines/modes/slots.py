"""The closed form of time to first spike in an engine: when it applies, and its fastest exact implementation."""

import torch
from torch import Tensor

from transpike.codes.first_spike import first_levels
from transpike.core.cell import Cell, NeuronSpec
from transpike.core.schedule import Schedule
from transpike.engines.native import first_spike as _native_first_spike
from transpike.lowering.lowered import Lowered


def has_closed_form(lowered: Lowered, schedule: Schedule) -> bool:
    """True if every neuron integrates its whole window before it fires, and codes the result in a slot."""
    cells = [node.op for node in lowered.nodes if isinstance(node.op, Cell)]
    return schedule.whole_windows and all(_codes(cell) or type(cell).counts is not Cell.counts for cell in cells)


def _codes(cell: Cell) -> bool:
    return cell.unit is not None and cell.unit.code is not None


class Coder:
    """Charges to levels, for one layer and window length; native if the layer has a single threshold."""

    def __init__(self, unit: NeuronSpec, slots: int, like: Tensor) -> None:
        assert unit.code is not None
        self.code, self.threshold = unit.code.shortened(slots), unit.threshold
        if bool((self.threshold == self.threshold.flatten()[0]).all()):
            self.threshold = self.threshold.flatten()[0]
        self.table = None
        if self.threshold.numel() == 1 and like.device.type == "cpu" and like.dtype == torch.float32:
            self.table = _native_first_spike.table(self.code, self.threshold)

    def __call__(self, charge: Tensor, owned: bool) -> Tensor:
        """The levels; they overwrite the charges if ``owned``."""
        if self.table is not None:
            return self.table(charge, owned)
        return first_levels(charge, self.threshold, self.code)

    def near(self, charge: Tensor) -> int:
        """The number of charges so close to a slot threshold that rounding may decide."""
        up, down = (first_levels(charge * side, self.threshold, self.code) for side in (1 + 1e-5, 1 - 1e-5))
        return int((up != down).sum())
