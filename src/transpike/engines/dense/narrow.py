"""Where float32 adds exactly although the run needs float64: weights that read levels."""

from dataclasses import replace

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.channels import resolved, shaped
from transpike.core.graph import Input, Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.engines.pieces import linear, pieces
from transpike.lowering.bounds import spans
from transpike.lowering.exact_grid import MANTISSA
from transpike.lowering.lowered import Lowered
from transpike.ops import Conv, Linear

CUTS = ((), (7,), (5, 9), (4, 7, 10))
"""The bits at which weights are cut into parts that are added apart, if the sum of whole weights may be too large."""
PART = 2**19  # bytes of the levels that are added together
WHOLE = ("binary", "ternary", "levels", "bits", "phase", "switch", "time")


class Narrow:
    """Layers of weights that run in float32, whole or in parts, with the same result as in float64.

    A sum of weights times levels is a multiple of the weights' lowest bit, and is exact in float32 in any order if its
    parts stay below 2²⁴ of them. Convolutions in float32 are several times faster than in float64.
    """

    def __init__(self, lowered: Lowered | None = None) -> None:
        """``lowered``: the float64 form. Nothing is narrow without it, or if it is not on the exact grid."""
        self.layers: dict[str, tuple[Node, Synapse, Tensor]] = {}
        """The layers that read levels, their weights, and the largest levels of one step, on the CPU."""
        self.made: dict[tuple[str, tuple[int, ...]], tuple[Synapse, ...]] = {}  # by layer and cuts
        self.chosen: dict[tuple[str, int], tuple[int, ...] | None] = {}  # the cuts, by layer and number of steps
        exactness = None if lowered is None else lowered.exactness
        if lowered is None or exactness is None or not exactness.timesteps:
            return
        self.device = next(
            (op.weight.device for n in lowered.nodes if isinstance(op := n.op, Synapse)), torch.device("cpu")
        )
        lowered = lowered.to(device="cpu")
        found = spans(lowered, exactness.input_bound)
        whole: set[str] = set()  # wires of levels
        for node in lowered.nodes:
            op = node.op
            if _is_whole(lowered, node, whole):
                whole.add(node.name)
            elif isinstance(op, Synapse) and is_plain(op, (Conv, Linear)) and node.inputs[0] in whole:
                self.layers[node.name] = node, op, found[node.inputs[0]].largest

    def parts(self, name: str, times: int = 1) -> tuple[Synapse, ...]:
        """What float32 adds one after another, for wires that carry the sum of ``times`` steps; () if that rounds."""
        if name not in self.layers:
            return ()
        if (name, times) not in self.chosen:
            node, op, levels = self.layers[name]
            self.chosen[name, times] = _cuts(node, op, times * levels)
        cuts = self.chosen[name, times]
        if cuts is None:
            return ()
        if (name, cuts) not in self.made:
            node, op, _ = self.layers[name]
            self.made[name, cuts] = tuple(_in_float32(part).to(device=self.device) for part, _ in _cut(node, op, cuts))
        return self.made[name, cuts]

    def linear(self, name: str, op: Op, inputs: list[Tensor], times: int = 1) -> Tensor:
        """``op`` without its bias, in float64 or, where that is exact, in float32."""
        parts = self.parts(name, times)
        if not parts:
            return linear(op, [value.double() for value in inputs])
        x, output = inputs[0], None
        few = x.dtype == torch.float64 or len(parts) > 1  # temporaries, which should be small
        for rows in pieces(len(x), x[0].nbytes, PART if few else x.nbytes):
            here = x[rows].float()
            total = parts[0].linear(here)
            for part in parts[1:]:
                total = total.double().add_(part.linear(here))
            if len(total) == len(x):
                return total
            if output is None:
                last = total.ndim == 4 and not total.is_contiguous()
                order = torch.channels_last if last else torch.contiguous_format
                output = torch.empty_like(total[:1].expand(len(x), *total.shape[1:]), memory_format=order)
            output[rows] = total
        assert output is not None
        return output


def _is_whole(lowered: Lowered, node: Node, whole: set[str]) -> bool:
    """True if the wire carries integer levels whose size is known."""
    alphabet = lowered.alphabets[node.name]
    if alphabet.kind not in WHOLE or not alphabet.levels:
        return False
    if isinstance(node.op, Input):
        return alphabet.levels == 1
    return isinstance(node.op, Cell) or whole.issuperset(node.inputs)


def _cuts(node: Node, op: Synapse, levels: Tensor) -> tuple[int, ...] | None:
    """The fewest cuts into parts whose sums float32 holds; None if there are not enough."""
    if not bool((levels < MANTISSA).all()):
        return None
    return next((cuts for cuts in CUTS if all(_fits(p, levels, step) for p, step in _cut(node, op, cuts))), None)


def _cut(node: Node, op: Synapse, cuts: tuple[int, ...]) -> list[tuple[Synapse, Tensor]]:
    """Parts of the weights that add up to them, the highest bits first, and the steps of which they are multiples."""
    axis = resolved(op.channel_axis, len(node.shape))
    bit, rest, found = lowest_bits(op, node.shape[axis - 1]), op.weight, []
    for cut in (*reversed(cuts), 0):
        coarse = op.per_output(bit * 2.0**cut)
        part = torch.round(rest / coarse) * coarse
        rest = rest - part
        if bool(part.any()) or not cut:
            found.append((replace(op, weight=part), 2.0**cut * shaped(bit, axis, len(node.shape))))
    return found


def _fits(op: Synapse, levels: Tensor, step: Tensor) -> bool:
    """True if the largest sum of a step is below 2²⁴ multiples of ``step``."""
    return bool((op.magnitude().linear(levels) < MANTISSA * step).all())


def _in_float32(op: Synapse) -> Synapse:
    weight = op.weight.float()
    weight = weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
    return replace(op, weight=weight, bias=None)


def lowest_bits(op: Synapse, channels: int) -> Tensor:
    """(channels,): the largest power of two of which all weights of an output channel are multiples."""
    mantissa, exponent = torch.frexp(op.weight)
    whole = (mantissa * 2.0**53).long()  # exact
    lowest = torch.ldexp((whole & -whole).double(), exponent - 53)
    lowest = torch.where(op.weight == 0, torch.inf, lowest)
    marks = op.per_output(torch.arange(channels, dtype=torch.float64, device=lowest.device)).expand_as(lowest).long()
    found = torch.full((channels,), torch.inf, dtype=torch.float64, device=lowest.device)
    return torch.nan_to_num(found.scatter_reduce(0, marks.flatten(), lowest.flatten(), "amin"), posinf=1.0)
