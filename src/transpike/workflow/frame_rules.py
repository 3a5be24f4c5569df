"""Layers of pictures with the batch merged with frames: one dimension more, along which they do nothing."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from transpike.core.call import Refused
from transpike.core.op import Part
from transpike.ops.shape import with_axes, with_shape
from transpike.workflow.layouts import Held, Reading, sizes_of

FRAMES = {
    "conv1d": "conv2d", "conv2d": "conv3d", "max_pool1d": "max_pool2d", "max_pool2d": "max_pool3d",
    "avg_pool1d": "avg_pool2d", "avg_pool2d": "avg_pool3d", "batch_norm": "batch_norm",
    "adaptive_avg_pool1d": "adaptive_avg_pool2d", "adaptive_avg_pool2d": "adaptive_avg_pool3d",
    "adaptive_max_pool1d": "adaptive_max_pool2d", "adaptive_max_pool2d": "adaptive_max_pool3d",
}  # fmt: skip
"""A layer of torch, and the same layer with one dimension more."""
_NEUTRAL = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


def frames(call: Reading) -> Held:
    """(batch · frames, channels, *space) as (batch, channels, frames, *space)."""
    wire = call.wires[0]
    layouts = call.layouts(wire.layout.outer, wire.layout.inner)
    if wire.layout.axis or len(call.wires) > 1:
        raise Refused(f"it is supported with the batch as the first axis only, but {wire.layout}")
    channels, *space = wire.sizes[1:]
    count, name = wire.layout.folded, FRAMES[call.short] + call.name[len(call.short) :]
    order = [0, 2, 1, *range(3, len(space) + 3)]
    x = call.permute(call.reshape(wire, (count, channels, *space)), order)
    arguments = {key: _longer(key, given, len(space), count) for key, given in call.arguments.items()}
    key = next(key for key, given in call.arguments.items() if given is wire)
    held, out = call.held(arguments | {key: x}, layouts, name), sizes_of(call.outputs[0])

    def back(part: Part) -> Part:
        moved = with_axes(part, order)
        return moved if held.shapes[0] == (count, *out[1:]) else with_shape(moved, held.shapes[0])

    return replace(held, inner=((out[1], count, *out[2:]),), last=back)


def _longer(key: str, given: Any, dimensions: int, count: int) -> Any:
    """A setting of a layer for one dimension more, which comes first."""
    if isinstance(given, Tensor):
        return given.unsqueeze(2) if given.ndim > 2 else given
    if key == "output_size":
        return [count, *given]
    if key not in _NEUTRAL or given == [] or isinstance(given, str):
        return given
    numbers = list(given) if isinstance(given, (list, tuple)) else [given]
    return [_NEUTRAL[key], *(numbers * dimensions if len(numbers) == 1 else numbers)]
