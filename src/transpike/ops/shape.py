"""Wiring that only moves elements: every output element is an input element, or padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.channels import reshaped
from transpike.core.op import Captured, Op, Part
from transpike.ops.scale import shift
from transpike.ops.wiring import Selection


@dataclass(frozen=True, eq=False)
class Reshape(Selection):
    """(batch, …) → (batch, *shape) in row-major order: flatten, view, reshape, squeeze, unsqueeze."""

    aten: ClassVar[tuple[str, ...]] = (
        "flatten.using_ints",
        "view.default",
        "reshape.default",
        "unflatten.int",
        "_unsafe_view.default",
        "squeeze.dim",
        "squeeze.dims",
        "squeeze.default",
        "unsqueeze.default",
        "view_as.default",
        "reshape_as.default",
    )
    shape: tuple[int, ...] = (-1,)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        return cls(shape=call.shapes[0]), (call.wire("self"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return reshaped(axes[0], shapes[0], shape)


@dataclass(frozen=True, eq=False)
class Permute(Selection):
    """Axes in another order; ``axes`` counts the batch as axis 0, which stays first."""

    aten: ClassVar[tuple[str, ...]] = (
        "permute.default",
        "transpose.int",
        "movedim.int",
        "movedim.intlist",
        "moveaxis.int",
        "moveaxis.intlist",
        "swapaxes.default",
        "swapdims.default",
        "t.default",
        "mT.default",
        "numpy_T.default",
        "pixel_shuffle.default",
        "pixel_unshuffle.default",
        "channel_shuffle.default",
    )
    axes: tuple[int, ...] = (0, 1)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x = call.wire("self")
        name = call.operator.split(".")[0]
        if "shuffle" in name:
            return _shuffled(name, call, x)
        axes = order(name, call.arguments, len(x.shape) + 1)
        if axes[0] != 0:
            raise Refused("it moves the batch axis")
        return cls(axes=axes), (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].permute(self.axes)

    def channel_axis_after(self, axes: Sequence[int], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
        return self.axes.index(axes[0])

    def describe(self) -> str:
        return f"permute {self.axes}"


@dataclass(frozen=True, eq=False)
class Slice(Selection):
    """``x[…, start:stop:step, …]`` along ``axis`` (the batch is axis 0)."""

    aten: ClassVar[tuple[str, ...]] = (
        "slice.Tensor",
        "narrow.default",
        "chunk.default",
        "split.Tensor",
        "split_with_sizes.default",
        "tensor_split.sections",
        "tensor_split.indices",
        "select.int",
        "unbind.int",
    )
    axis: int = 1
    start: int = 0
    stop: int = 0
    step: int = 1

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x = call.wire("self")
        rank = len(x.shape) + 1
        if call.operator == "slice.Tensor":
            start, stop, step = slice(call["start"], call["end"], call["step"]).indices(
                ([2**62, *x.shape])[call["dim"] % rank]
            )
            if call["dim"] % rank == 0:  # x[:, …] first slices the whole batch
                if (call["start"] or 0, step) == (0, 1) and (call["end"] is None or call["end"] >= 2**62):
                    return Identity(), (x,)
                raise Refused("it takes a part of the batch")
            return cls(axis=call["dim"] % rank, start=start, stop=stop, step=step), (x,)
        axis = call.axis("dim", rank)
        size = x.shape[axis - 1]
        if call.operator == "narrow.default":
            start = call["start"] % size if size else 0
            return cls(axis=axis, start=start, stop=start + call["length"]), (x,)
        if call.operator in ("select.int", "unbind.int"):
            places = range(size) if call.operator == "unbind.int" else [call["index"] % size]
            kept = [(cls(axis=axis, start=place, stop=place + 1), (x,)) for place in places]
            whole: list[tuple[Op, tuple[Part, ...]]] = [(Reshape(shape=call.shapes[0]), (part,)) for part in kept]
            return whole if call.operator == "unbind.int" else whole[0]
        pieces: list[tuple[Op, tuple[Part, ...]]] = []
        start = 0
        for shape in call.shapes:
            pieces.append((cls(axis=axis, start=start, stop=start + shape[axis - 1]), (x,)))
            start += shape[axis - 1]
        return pieces

    def run(self, *inputs: Tensor) -> Tensor:
        index = [slice(None)] * inputs[0].ndim
        index[self.axis] = slice(self.start, self.stop, self.step)
        return inputs[0][tuple(index)]

    def describe(self) -> str:
        step = f":{self.step}" if self.step > 1 else ""
        return f"slice axis {self.axis} {self.start}:{self.stop}{step}"


@dataclass(frozen=True, eq=False)
class Pad(Selection):
    """Zeros, or reflected, repeated or circular borders, in torch's order (last axis first)."""

    aten: ClassVar[tuple[str, ...]] = ("pad.default", "constant_pad_nd.default")
    amounts: tuple[int, ...] = ()
    mode: str = "constant"

    @classmethod
    def capture(cls, call: Call) -> Captured:
        mode, value = call.get("mode", "constant"), call.get("value") or 0.0
        x = call.wire("self")
        if len(call["pad"]) > 2 * len(x.shape):
            raise Refused("it pads the batch axis")
        padded = cls(amounts=tuple(call["pad"]), mode=mode)
        if mode != "constant" or value == 0:
            return padded, (x,)
        border = value * (1 - padded.run(torch.ones(1, *x.shape)))  # a bias: zeros need no spikes, a value does
        return shift(border, call.shapes[0]), ((padded, (x,)),)

    def run(self, *inputs: Tensor) -> Tensor:
        return F.pad(inputs[0], self.amounts, self.mode)

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> tuple[Op, Tensor | None]:
        value = torch.nan if self.mode == "constant" else None  # zero padding never sends a spike
        return self, F.pad(spike_scales[0], self.amounts, self.mode, value)

    def describe(self) -> str:
        return f"pad {self.amounts}" + ("" if self.mode == "constant" else f" {self.mode}")


@dataclass(frozen=True, eq=False)
class Nearest(Selection):
    """Nearest-neighbour resampling; ``picks``: for each spatial axis the input position of every output position."""

    channel_axis: ClassVar[int] = 1
    aten: ClassVar[tuple[str, ...]] = ("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
    picks: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x, factors = call.wire("input"), call.get("scale_factors")
        picks = []
        for axis, (size, out) in enumerate(zip(x.shape[1:], call.shapes[0][1:], strict=True)):
            line = torch.arange(size, dtype=torch.float32)[None, None]  # torch's own rounding of the factor
            if factors is None:
                picked = F.interpolate(line, size=out, mode="nearest")
            else:
                picked = F.interpolate(line, scale_factor=factors[axis], recompute_scale_factor=False, mode="nearest")
            picks.append(tuple(int(position) for position in picked.flatten()))
        return cls(picks=tuple(picks)), (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        y = inputs[0]
        for axis, picks in enumerate(self.picks):
            y = y.index_select(axis + 2, torch.tensor(picks, device=y.device))
        return y

    def describe(self) -> str:
        return f"upsample nearest {'×'.join(str(len(picks)) for picks in self.picks)}"


@dataclass(frozen=True, eq=False)
class Identity(Selection):
    """Returns its input."""

    aten: ClassVar[tuple[str, ...]] = (
        "contiguous.default",
        "clone.default",
        "detach.default",
        "detach_.default",
        "alias.default",
        "to.dtype",
        "to.device",
        "to.dtype_layout",
        "to.other",
        "type_as.default",
        "_to_copy.default",
        "lift_fresh_copy.default",
    )

    @classmethod
    def capture(cls, call: Call) -> Captured:
        dtype = getattr(call.get("other"), "dtype", call.get("dtype"))
        if dtype is not None and not dtype.is_floating_point:
            raise Refused(f"it turns activations into {dtype}, which rounds them")
        return cls(), (call.wire("self"),)

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


def order(name: str, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
    """The order into which an operator of torch ("permute", "movedim" …) brings the axes of a tensor."""
    marked = torch.empty(tuple(range(rank)), device="meta")  # axis i has the size i
    moved = getattr(marked, {"numpy_T": "T"}.get(name, name))
    settings = [value for key, value in arguments.items() if key != "self"]
    return tuple((moved(*settings) if callable(moved) else moved).shape)


def with_shape(part: Part, shape: Sequence[int]) -> Part:
    """``part`` in another shape (without the batch)."""
    return Reshape(shape=tuple(shape)), (part,)


def with_axes(part: Part, axes: Sequence[int]) -> Part:
    """``part`` with its axes in another order; the batch is axis 0."""
    return part if list(axes) == list(range(len(axes))) else (Permute(axes=tuple(axes)), (part,))


def _shuffled(name: str, call: Call, x: Wire) -> Captured:
    """Channels to pixels and back (torch.nn.PixelShuffle, PixelUnshuffle), and channels of groups (ChannelShuffle)."""
    channels, *space = x.shape
    if name.endswith("channel_shuffle"):
        groups = call["groups"]
        apart: tuple[int, ...] = (groups, channels // groups, *space)
        axes = [0, 2, 1, *range(3, len(apart) + 1)]
    elif len(space) != 2:
        raise Refused("it takes images (batch, channels, height, width) only")
    elif name == "pixel_shuffle":
        r = call["upscale_factor"]
        apart, axes = (channels // r**2, r, r, *space), [0, 1, 4, 2, 5, 3]
    else:
        r = call["downscale_factor"]
        apart, axes = (channels, space[0] // r, r, space[1] // r, r), [0, 1, 3, 5, 2, 4]
    return Reshape(shape=call.shapes[0]), (with_axes(with_shape(x, apart), axes),)
