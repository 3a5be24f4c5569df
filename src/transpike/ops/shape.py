"""Wiring that only moves elements: every output element is an input element, or padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call, Refused, Wire
from transpike.core.channels import reshaped
from transpike.core.op import Captured, Op
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
        "unsqueeze.default",
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

    aten: ClassVar[tuple[str, ...]] = ("permute.default", "transpose.int")
    axes: tuple[int, ...] = (0, 1)

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x = call.wire("self")
        rank = len(x.shape) + 1
        if "dims" in call.arguments:
            axes = [axis % rank for axis in call["dims"]]
        else:
            axes = list(range(rank))
            a, b = call["dim0"] % rank, call["dim1"] % rank
            axes[a], axes[b] = axes[b], axes[a]
        if axes[0] != 0:
            raise Refused("it moves the batch axis")
        return cls(axes=tuple(axes)), (x,)

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
        if call.operator == "narrow.default":
            return cls(axis=axis, start=call["start"], stop=call["start"] + call["length"]), (x,)
        pieces: list[tuple[Op, tuple[Wire, ...]]] = []
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
        mode = call.get("mode", "constant")
        if mode == "constant" and call.get("value"):
            raise Refused(f"it pads with {call['value']}; only zeros need no spikes")
        x = call.wire("self")
        if len(call["pad"]) > 2 * len(x.shape):
            raise Refused("it pads the batch axis")
        return cls(amounts=tuple(call["pad"]), mode=mode), (x,)

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
class Cat(Selection):
    """Inputs concatenated along ``axis`` (the batch is axis 0)."""

    aten: ClassVar[tuple[str, ...]] = ("cat.default", "concat.default")
    axis: int = 1

    @classmethod
    def capture(cls, call: Call) -> Captured:
        wires = tuple(call["tensors"])
        if not all(isinstance(wire, Wire) for wire in wires):
            raise Refused("it concatenates a constant; add it to the input instead")
        return cls(axis=call.axis("dim", len(wires[0].shape) + 1)), wires

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)


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
        "_to_copy.default",
        "lift_fresh_copy.default",
    )

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0]
