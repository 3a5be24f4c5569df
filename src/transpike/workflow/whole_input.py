"""An input of integers: pixels of a number of bits, or multiples of a power of two."""

from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Any

import torch
from torch import Tensor

from transpike.core.encoder import Encoder
from transpike.core.graph import Graph, Node
from transpike.core.plain import is_plain
from transpike.core.preprocessing import Preprocessing
from transpike.encoders import ConstantCurrent
from transpike.errors import SettingError
from transpike.ops.scale import Scale


@dataclass(frozen=True, eq=False)
class WholeInput:
    """``x = weight · n + offset`` per channel, n whole; ``preprocessing`` makes n from what users give."""

    preprocessing: Preprocessing
    weight: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The integers for preprocessed inputs (batch, *shape) of the network before."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        found = (x.double() - self.offset.reshape(shape)) / self.weight.reshape(shape)
        assert self.preprocessing.whole is not None
        return found.round().clamp(*self.preprocessing.whole).float()

    def before(self, source: Graph) -> Graph:
        """The network after an input of integers, which a scale turns into its input."""
        first, name = source.nodes[0], f"{source.nodes[0].name}_unit"
        while any(node.name == name for node in source):
            name += "_"
        offset = self.offset.float() if bool(self.offset.any()) else None
        weight = self.weight.float()
        if weight.numel() == 1:
            weight = weight.reshape(())
            offset = None if offset is None else offset.reshape(())
        scale = Node(name, Scale(weight=weight, bias=offset), (first.name,), "", (), first.shape)
        rest = [
            replace(node, inputs=tuple(name if one == first.name else one for one in node.inputs))
            for node in source.nodes[1:]
        ]
        return Graph((first, scale, *rest))


def whole_input(
    bits: Any,
    preprocessing: Preprocessing | None,
    encoder: Encoder,
    batches: tuple[Tensor, ...],
    shape: tuple[int, ...],
) -> WholeInput:
    """The integers of ``bits`` bits for calibration inputs ``batches``, preprocessed by ``preprocessing``.

    Pixels from 0 to 1 before their preprocessing become n = 0 … 2^bits − 1, bytes themselves if ``bits`` is 8. Other
    inputs become multiples of 2^-k, the largest of which needs ``bits`` bits besides its sign.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        raise SettingError(f"input_bits must be an integer from 1 to 16, not {bits!r}")
    if not is_plain(encoder, ConstantCurrent):
        raise SettingError(f"input_bits is for inputs that enter as a constant current, not for {encoder}: omit it")
    if not shape:
        raise SettingError("input_bits needs inputs with a channel axis, (batch, channels, …)")
    mean, std = (torch.tensor(row).double() for row in ((0.0,), (1.0,)))
    if preprocessing is not None:
        mean, std = (torch.tensor(row).double() for row in (preprocessing.mean, preprocessing.std))
    view = (1, -1) + (1,) * len(shape[1:])
    pixels = [batch.double() * std.reshape(view) + mean.reshape(view) for batch in batches]
    low, high = min(float(one.min()) for one in pixels), max(float(one.max()) for one in pixels)
    if preprocessing is not None and low >= -1e-6 and high <= 1 + 1e-6:
        levels = 2**bits - 1
        return WholeInput(
            Preprocessing((0.0,), (1 / levels,), (0, levels)), *torch.broadcast_tensors(1 / (levels * std), -mean / std)
        )
    largest = max(float(batch.abs().max()) for batch in batches)
    unit, signed = 2.0 ** (ceil(log2(largest)) - bits), min(float(batch.min()) for batch in batches) < 0
    given = preprocessing or Preprocessing()
    scaled = tuple(value * unit for value in given.std)
    return WholeInput(
        Preprocessing(given.mean, scaled, (-(2**bits) if signed else 0, 2**bits)),
        torch.tensor([unit]).double(),
        torch.zeros(1).double(),
    )
