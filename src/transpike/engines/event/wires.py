"""Wires as packed spikes: words of 32 time steps, and the wiring that moves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.graph import Node
from transpike.core.plain import is_plain
from transpike.engines.event.firing import Factors, joined, places
from transpike.engines.event.weights import image, padded, pair
from transpike.ops import AvgPool

Planes = list[Tensor]
"""A wire as packed spikes: planes (batch, height, width, padded channels) of 32-bit words, whose sum it is, each times
its factor in ``Choice.planes``.
"""


@dataclass(frozen=True, eq=False)
class Copy:
    """Words that wiring copies from plane ``index`` of ``wire``.

    ``places``: for each word of the output its place in one sample of that plane, or −1. ``runs`` are the same as rows:
    first word of the output, of the input, number of words.
    """

    wire: str
    index: int
    places: Tensor
    runs: Tensor

    @classmethod
    def of(cls, wire: str, index: int, places: Tensor) -> "Copy":
        there = (places >= 0).nonzero()[:, 0]
        source = places[there].long()
        begins = torch.ones(len(there), dtype=torch.bool)
        begins[1:] = (there.diff() != 1) | (source.diff() != 1)
        first = begins.nonzero()[:, 0]
        length = torch.diff(first, append=torch.tensor([len(there)]))
        return cls(wire, index, places, torch.stack([there[first], source[first], length], 1).int().contiguous())


def numbers(plane: Tensor) -> Tensor:
    """One sample's words, numbered from 1 on as they lie in memory; wiring moves them and puts 0 where nothing is."""
    sample = plane[:1]
    reach = sum((size - 1) * step for size, step in zip(sample.shape[1:], sample.stride()[1:], strict=True)) + 1
    found = torch.arange(1, reach + 1, dtype=torch.int32)
    return found.as_strided(sample.shape, (reach, *sample.stride()[1:]))


def of_one_stride(planes: Planes) -> Planes:
    """The planes in a form that the kernels can read: channels contiguous, all with the same strides."""
    first = planes[0].stride()
    same = all(plane.stride() == first for plane in planes) and first[3] == 1
    return planes if same else [plane.contiguous() for plane in planes]


def moved(node: Node, inputs: list[Planes], shapes: list[tuple[int, ...]], factors: Sequence[Factors] = ()) -> Planes:
    """Wiring on packed spikes: it moves words instead of numbers; a sum over a window gives more planes.

    ``factors`` of the planes of each input: by default 1.
    """
    op: Any = node.op
    if is_plain(op, AvgPool):
        return [window for plane in inputs[0] for window in windows(op, plane, node.shape)]
    factors = factors or [(1,) * len(planes) for planes in inputs]
    outputs, wanted = [], joined(factors)
    found = [places(own, wanted) for own in factors]
    for index in range(len(wanted)):
        here = [(planes, at[index]) for planes, at in zip(inputs, found, strict=True)]
        parts = [torch.zeros_like(planes[0]) if at is None else planes[at] for planes, at in here]
        plain = [
            part[..., : shape[0]].movedim(-1, 1).reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)
        ]
        outputs.append(lanes_of(op.run(*plain), node.shape))
    return outputs


def lanes_of(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(…, *shape) → (…, height, width, padded channels)."""
    channels, height, width = image(shape)
    lanes = value.reshape(-1, channels, height, width).movedim(1, -1)
    return F.pad(lanes, (0, padded(channels) - channels)).contiguous()


def windows(op: AvgPool, plane: Tensor, shape: tuple[int, ...]) -> Planes:
    """One plane for each position in the pooling window."""
    _, height, width = image(shape)
    (ky, kx), (sy, sx), (py, px) = pair(op.kernel, 1), pair(op.stride, 1), pair(op.padding, 0)
    below = max(0, (height - 1) * sy + ky - py - plane.shape[1])
    right = max(0, (width - 1) * sx + kx - px - plane.shape[2])
    if py or px or below or right:
        plane = F.pad(plane, (0, 0, px, right, py, below))
    rows, columns = (height - 1) * sy + 1, (width - 1) * sx + 1
    return [plane[:, y : y + rows : sy, x : x + columns : sx] for y in range(ky) for x in range(kx)]
