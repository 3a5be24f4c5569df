"""Where float32 adds exactly although the run needs float64: weights that read levels."""

from dataclasses import replace

import torch
from torch import Tensor

from transpike.core.channels import resolved, shaped
from transpike.core.graph import Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.engines.pieces import linear
from transpike.lowering.bounds import spans
from transpike.lowering.exact_grid import MANTISSA
from transpike.lowering.lowered import Lowered
from transpike.ops import Conv, Linear

LOW_BITS = 7
"""Bits of a weight that are added apart if the sum of whole weights may be too large."""


class Narrow:
    """Layers of weights that run in float32, whole or in two parts, with the same result as in float64.

    A sum of weights times levels is a multiple of the weights' lowest bit, and is exact in float32 in any order if its
    parts stay below 2²⁴ of them. Convolutions in float32 are several times faster than in float64.
    """

    def __init__(self, lowered: Lowered | None = None) -> None:
        """``lowered``: the float64 form. Nothing is narrow without it, or if it is not on the exact grid."""
        self.parts: dict[str, tuple[Synapse, ...]] = {}
        exactness = None if lowered is None else lowered.exactness
        if lowered is None or exactness is None or not exactness.timesteps:
            return
        device = next((op.weight.device for n in lowered.nodes if isinstance(op := n.op, Synapse)), torch.device("cpu"))
        lowered = lowered.to(device="cpu")
        found = spans(lowered, exactness.input_bound)
        whole: set[str] = set()  # wires of levels that float32 holds
        for node in lowered.nodes:
            alphabet, op = lowered.alphabets[node.name], node.op
            if alphabet.is_spiking and alphabet.kind in ("bits", "levels", "binary"):
                if bool((found[node.name].largest < MANTISSA).all()):
                    whole.add(node.name)
            elif isinstance(op, Synapse) and is_plain(op, (Conv, Linear)) and node.inputs[0] in whole:
                parts = _parts(node, op, found[node.inputs[0]].largest)
                self.parts[node.name] = tuple(part.to(device=device) for part in parts)

    def linear(self, name: str, op: Op, inputs: list[Tensor]) -> Tensor:
        """``op`` without its bias, in float64 or, where that is exact, in float32."""
        parts = self.parts.get(name)
        if not parts:
            return linear(op, [value.double() for value in inputs])
        x = inputs[0].float()
        return parts[0].linear(x) if len(parts) == 1 else parts[0].linear(x).double().add_(parts[1].linear(x))


def _parts(node: Node, op: Synapse, levels: Tensor) -> tuple[Synapse, ...]:
    """The weights as one or two parts whose sums float32 holds; () if two are not enough."""
    channels = node.shape[resolved(op.channel_axis, len(node.shape)) - 1]
    bit = lowest_bits(op, channels)
    step = shaped(bit, resolved(op.channel_axis, len(node.shape)), len(node.shape))
    if _fits(op, levels, step):
        return (_in_float32(op),)
    coarse = op.per_output(bit * 2.0**LOW_BITS)
    high = replace(op, weight=torch.round(op.weight / coarse) * coarse)
    low = replace(op, weight=op.weight - high.weight)
    if _fits(high, levels, step * 2.0**LOW_BITS) and _fits(low, levels, step):
        return _in_float32(high), _in_float32(low)
    return ()


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
