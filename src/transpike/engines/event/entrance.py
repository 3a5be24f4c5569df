"""The current of a constant analogue input after a convolution, by the native library."""

import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.graph import Input
from transpike.core.plain import is_plain
from transpike.engines.event.layers import EventLayer
from transpike.engines.event.weights import image, padded, pair
from transpike.engines.native import library as _native
from transpike.errors import SettingError
from transpike.lowering.lowered import Lowered
from transpike.lowering.rounding_points import OnGrid
from transpike.ops import Conv


@dataclass(frozen=True, eq=False)
class Entrance:
    """A convolution of the input itself, which is rounded to the grid before the neurons of one layer.

    Sums in float64, as those of torch; ``alive`` are the tensors that ``call`` points to.
    """

    call: _native.Entrance
    shape: tuple[int, ...]
    alive: tuple[Tensor, ...]

    @classmethod
    def of(cls, layer: EventLayer, lowered: Lowered) -> "Entrance | None":
        """``lowered``: the float64 form. None for a layer with another current than that."""
        table = {node.name: node for node in lowered.nodes}
        if len(layer.constant_wires) != 1:
            return None
        name, factor = layer.constant_wires[0]
        point = table[name]
        if not isinstance(point.op, OnGrid) or point.op.step is not None:
            return None
        conv = table[point.inputs[0]]
        op = conv.op
        if not is_plain(op, Conv) or op.transposed or op.groups != 1 or op.dimensions > 2:
            return None
        source, grid = table[conv.inputs[0]], point.op.grid.flatten(2)
        if type(source.op) is not Input or not bool((grid == grid[..., :1]).all()):
            return None
        (channels, height, width), inputs = image(conv.shape), image(source.shape)
        more = padded(channels) - channels
        weight = op.weight.reshape(*op.weight.shape[:2], *pair(op.weight.shape[2:], 1)).double()
        weights = F.pad(weight.permute(2, 3, 1, 0), (0, more)).contiguous()
        steps = F.pad(grid[0, :, 0].double(), (0, more), value=1.0)
        call = _native.Entrance(
            weights=weights.data_ptr(), grid=steps.data_ptr(), bias=layer.bias.data_ptr(), height=height, width=width,
            channels=padded(channels), channels_in=inputs[0], height_in=inputs[1], width_in=inputs[2], factor=factor,
            bias_position=layer.bias.stride(0) if len(layer.bias) > 1 else 0,
        )  # fmt: skip
        for field, missing in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            values = op.weight.shape[2:] if field == "kernel" else getattr(op, field)
            for axis, value in zip("yx", pair(values, missing), strict=True):
                setattr(call, f"{field}_{axis}", value)
        return cls(call, (height * width, padded(channels)), (weights, steps, layer.bias))

    def current(self, library: ctypes.CDLL, x: Tensor) -> Tensor:
        """The current of every step for the inputs x, (batch, positions, padded channels), with the bias."""
        call, x = _native.Entrance.from_buffer_copy(self.call), x.contiguous()
        found = torch.empty((len(x), *self.shape))
        call.x, call.currents = x.data_ptr(), found.data_ptr()
        call.batch, call.threads = len(x), torch.get_num_threads()
        needed = library.tp_entrance_scratch(ctypes.byref(call))
        if needed < 0:
            raise SettingError("the native library refuses the first layer; use engine='dense' and report this")
        scratch = torch.empty(needed, dtype=torch.uint8)
        library.tp_run_entrance(ctypes.byref(call), scratch.data_ptr())
        return found
