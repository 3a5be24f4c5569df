"""Linear maps with one matrix per spatial axis: uneven adaptive averages, and interpolation."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.call import Call
from transpike.core.op import Captured, Op
from transpike.ops.wiring import Average

PARTS = (2, 4, 8, 16)  # 2 r in interpolation by a factor r
"""Divisors of weights that interpolation can leave to the spike scale."""


@dataclass(frozen=True, eq=False)
class Resample(Average):
    """``y = M_1 x M_2ᵀ``, one matrix (out, in) for each of the last axes: height first, then width.

    ``aten`` covers adaptive average pooling (rows of equal weights) and linear, bilinear and bicubic upsampling.
    """

    channel_axis: ClassVar[int] = 1
    aten: ClassVar[tuple[str, ...]] = (
        "adaptive_avg_pool1d.default",
        "adaptive_avg_pool2d.default",
        "upsample_linear1d.vec",
        "upsample_bilinear2d.vec",
        "upsample_bicubic2d.vec",
    )
    buffers: ClassVar[tuple[str, ...]] = ("rows", "columns")  # fixed by the geometry, not trained
    rows: Tensor | None = None
    columns: Tensor = None  # type: ignore[assignment]
    kind: str = "resample"

    @classmethod
    def capture(cls, call: Call) -> Captured:
        x = call.wire("self" if "self" in call.arguments else "input")
        if call.operator.startswith("adaptive"):
            kind, maps = (
                "adaptive_avg_pool",
                [adaptive_average(n, m) for n, m in zip(x.shape[1:], call.shapes[0][1:], strict=True)],
            )
        else:
            kind = call.operator.split(".")[0]
            maps = [
                _interpolation(call, axis, n, m)
                for axis, (n, m) in enumerate(zip(x.shape[1:], call.shapes[0][1:], strict=True))
            ]
        return cls(rows=maps[0] if len(maps) == 2 else None, columns=maps[-1], kind=kind), (x,)

    def run(self, *inputs: Tensor) -> Tensor:
        y = inputs[0] @ self.columns.T
        return y if self.rows is None else self.rows @ y

    def total(self) -> "Resample":
        """The same paths, each with weight one."""
        rows = None if self.rows is None else (self.rows != 0).to(self.rows.dtype)
        return replace(self, rows=rows, columns=(self.columns != 0).to(self.columns.dtype))

    def magnitude(self) -> "Resample":
        return replace(self, rows=None if self.rows is None else self.rows.abs(), columns=self.columns.abs())

    def propagate_levels(self, spike_scales: tuple[Tensor, ...]) -> tuple[Op, Tensor | None] | None:
        matrices = [self.columns] if self.rows is None else [self.rows, self.columns]
        means = all(bool(((m == 0) | (m == m.amax(1, keepdim=True))).all()) for m in matrices)
        return super().propagate_levels(spike_scales) if means else self._in_whole_parts(spike_scales[0], matrices)

    def _in_whole_parts(self, spike_scale: Tensor, matrices: list[Tensor]) -> tuple[Op, Tensor] | None:
        """Whole weights, and their divisor in the spike scale, where weights are parts of a power of two.

        So it is in linear interpolation by powers of two. None for other weights, and where a channel has several
        spike scales, which the weights would mix.
        """
        parts = [k for k in map(_parts, matrices) if k is not None]
        places = spike_scale.flatten(-len(matrices))
        first = places[..., :1]
        if len(parts) < len(matrices) or not bool((places == first).all()):  # NaN, too: there are no levels
            return None
        whole = [m * k for m, k in zip(matrices, parts, strict=True)]
        op = replace(self, rows=whole[0] if len(whole) == 2 else None, columns=whole[-1])
        scale = first / math.prod(parts)
        shape = (*spike_scale.shape[: -len(matrices)], *(len(m) for m in matrices))
        return op, scale.reshape(*first.shape[:-1], *(1 for _ in matrices)).expand(shape)

    def describe(self) -> str:
        return f"{self.kind} {self.columns.shape[0] if self.rows is None else f'{len(self.rows)}×{len(self.columns)}'}"


def _parts(matrix: Tensor) -> int | None:
    """The smallest of ``PARTS`` of which all weights are multiples."""
    return next((k for k in PARTS if bool((matrix * k == (matrix * k).round()).all())), None)


def adaptive_average(size_in: int, size_out: int) -> Tensor:
    """The matrix of torch's adaptive average pooling along one axis: window i is ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉."""
    matrix = torch.zeros(size_out, size_in)
    for i in range(size_out):
        start, stop = i * size_in // size_out, -(-(i + 1) * size_in // size_out)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _interpolation(call: Call, axis: int, size_in: int, size_out: int) -> Tensor:
    """The matrix of torch's interpolation along one axis, found by interpolating the unit vectors."""
    mode = {"linear1d": "linear", "bilinear2d": "bilinear", "bicubic2d": "bicubic"}[call.operator.split(".")[0][9:]]
    factors = call.get("scale_factors")
    units = torch.eye(size_in)
    if mode == "linear":
        image, size, scale = units[:, None], [size_out], None if factors is None else factors[axis]
    else:
        image, size, scale = units[:, None, :, None], [size_out, 1], None if factors is None else (factors[axis], 1.0)
    settings = {"size": size} if scale is None else {"scale_factor": scale, "recompute_scale_factor": False}
    answer = F.interpolate(image, mode=mode, align_corners=call["align_corners"], **settings)
    return answer.reshape(size_in, size_out).T.contiguous()
