"""Calls of the native kernel. Constant fields are filled in once, which saves time for small batches."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.engines.event.layers import EventLayer
from transpike.engines.event.weights import TABLES, image, padded
from transpike.engines.native import library as _native
from transpike.lowering.exact_grid import RANGE_CHECK_EVERY

TABLE_BYTES = 32  # a table has 256 rows for the weights of 8 inputs


@dataclass(frozen=True, eq=False)
class LayerCall:
    """The C structures of one layer without the values of a run; copies of them are completed and passed."""

    layer: EventLayer
    call: _native.Layer
    sources: Any
    work: int
    """Multiplications of a sample and step, if every input fired."""
    factors: Tensor

    @classmethod
    def of(cls, layer: EventLayer) -> "LayerCall":
        channels, height, width = image(layer.node.shape)
        factors = torch.tensor(layer.firing.factors, dtype=torch.float32)
        sources = (_native.Source * max(1, len(layer.sources)))()
        for struct, source in zip(sources, layer.sources, strict=False):
            struct.weights, struct.block_weights = source.weights.data_ptr(), source.block_weights.data_ptr()
            struct.units, struct.factors = source.units.data_ptr(), source.factors.data_ptr() or None
            struct.kind, struct.groups = source.kind, source.groups
            for name in ("kernel", "stride", "padding", "dilation"):
                for axis, value in zip("yx", getattr(source, name), strict=True):
                    setattr(struct, f"{name}_{axis}", value)
        call = _native.Layer(
            threshold=layer.threshold.data_ptr(),
            room=layer.room.data_ptr(),
            edge=layer.edge.data_ptr(),
            factors=factors.data_ptr(),
            rule=layer.firing.rule,
            factor_count=len(factors),
            remembers=layer.firing.remembers,
            leak=layer.leak,
            block_start=layer.block_start.data_ptr(),
            block_units=layer.block_units.data_ptr(),
            source_count=len(layer.sources),
            blocks=len(layer.block_start),
            height=height,
            width=width,
            channels=padded(channels),
            threshold_position=stride(layer.threshold, 0),
            room_position=stride(layer.room, 0),
            initial_position=stride(layer.initial, 0),
            hard_reset=layer.hard,
            range_check_every=RANGE_CHECK_EVERY,
        )
        each = sum(s.weights.numel() // (TABLE_BYTES if s.kind in TABLES else 1) for s in layer.sources)
        return cls(layer, call, sources, each * height * width, factors)

    def filled(
        self, wires: list[list[Tensor]], constant: Tensor, state: Any, fired: Tensor, steps: int, first_step: int,
        fresh: bool = False,
    ) -> tuple[_native.Layer, Any]:  # fmt: skip
        """The structure to pass, and the objects that must stay alive meanwhile; ``wires``: planes of each source.

        ``state``: the potential, or (potential, sum of the levels so far); None: they are not stored. ``fresh``: they
        are those before the first step, whatever ``state`` holds.
        """
        potential, sent = state if isinstance(state, tuple) else (state, None)
        call, sources = _native.Layer.from_buffer_copy(self.call), type(self.sources).from_buffer_copy(self.sources)
        alive: list[Any] = [sources, wires]
        for struct, source, planes in zip(sources, self.layer.sources, wires, strict=False):
            first = source.first * planes[0].element_size()
            addresses = (ctypes.c_void_p * len(planes))(*(plane.data_ptr() + first for plane in planes))
            alive.append(addresses)
            struct.planes, struct.plane_count = ctypes.addressof(addresses), len(planes)
            struct.sample_words, struct.row_words, struct.column_words = planes[0].stride()[:3]
            struct.height, struct.width, struct.channels = *planes[0].shape[1:3], source.channels
        call.sources, call.words = ctypes.addressof(sources), fired.data_ptr()
        call.constant, call.potential = constant.data_ptr(), None if potential is None else potential.data_ptr()
        call.initial = self.layer.initial.data_ptr() if fresh else None
        call.sent = None if sent is None else sent.data_ptr()
        call.constant_sample, call.constant_position = stride(constant, 0), stride(constant, 1)
        call.batch, call.steps, call.first_step = fired.shape[-4], steps, first_step
        return call, alive


def stride(value: Tensor, axis: int) -> int:
    """The stride of an axis; 0 for an axis of length one, which is broadcast."""
    return value.stride(axis) if value.shape[axis] > 1 else 0
