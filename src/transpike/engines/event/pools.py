"""Maximum pooling in time in the native library."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.alphabet import BINARY
from transpike.core.graph import Node
from transpike.core.plain import is_plain
from transpike.engines.event.firing import Factors
from transpike.engines.event.weights import UnfitError, image, pair
from transpike.lowering.lowered import Lowered
from transpike.neurons import LateralInhibition
from transpike.ops import MaxPool


@dataclass(frozen=True, eq=False)
class EventPool:
    """Maximum pooling by lateral inhibition: ``taps`` (outputs, window) are input positions, −1 outside."""

    node: Node
    taps: Tensor
    kernel: str = "event: lateral inhibition"
    planes: Factors = (1,)

    @property
    def wires(self) -> tuple[str, ...]:
        """The wires of spikes that it reads."""
        return self.node.inputs


def pool_of(node: Node, cell: LateralInhibition, lowered: Lowered, planes: Mapping[str, Factors]) -> EventPool:
    """Raises UnfitError with the reason if there is no kernel for it. ``planes``: of the wires that are packed."""
    wire, pool = node.inputs[0], cell.pool
    table = {one.name: one for one in lowered.nodes}
    if not is_plain(pool, MaxPool) or cell.pre_simulation_steps:
        raise UnfitError(f"{cell.describe()} has no kernel")
    if planes.get(wire) != (1,) or lowered.alphabets[node.name] != BINARY:
        raise UnfitError(f"{wire} does not carry binary spikes")
    if bool(lowered.biases[node.name][0].any()):
        raise UnfitError("its input has a bias")
    _, height, width = image(table[wire].shape)
    # the pooling of position numbers, tap by tap: shift the kernel over a map of positions
    positions = torch.arange(1, height * width + 1, dtype=torch.float64).reshape(1, 1, height, width)
    kernel, stride = pair(pool.kernel, 1), pair(pool.stride, 1)
    padding, dilation = pair(pool.padding, 0), pair(pool.dilation, 1)
    _, rows_out, columns_out = image(node.shape)
    reach = [
        (size - 1) * step + (taps - 1) * spread + 1
        for size, step, taps, spread in zip((rows_out, columns_out), stride, kernel, dilation, strict=True)
    ]
    right = max(0, reach[1] - width - padding[1])
    below = max(0, reach[0] - height - padding[0])
    board = F.pad(positions, (padding[1], right, padding[0], below))
    taps = F.unfold(board[:, :, : reach[0], : reach[1]], kernel, dilation, 0, stride)[0].t().long() - 1
    return EventPool(node, taps.contiguous())
