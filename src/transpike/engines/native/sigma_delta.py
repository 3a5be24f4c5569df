"""Steps of sigma-delta neurons in the native library: the numbers of ``SigmaDelta.scan``, bit by bit."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from transpike.activations import Clip, ReLU, Unchanged
from transpike.core.cell import Cell, Rounding
from transpike.core.finite import finite
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.engines.native import library as _native
from transpike.neurons import SigmaDelta
from transpike.neurons.apart import steps_apart
from transpike.neurons.sigma_delta import FINE, NEAR, OFF_GRID, TOGETHER

SAME, CLIP, GIVEN = 0, 1, 2  # native/transpike.h
SMALL = 2**14  # neurons below which one thread is used
REPEATED = 512  # the values of a few channels are repeated until they are about as many

Scanned = tuple[tuple[Tensor, ...], Tensor, int]


class Scans:
    """Scans of a run's cells; keeps each one's thresholds in the order of its neurons."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bool], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, name: str, cell: Cell, state: Any, trains: list[Tensor], everything: bool = True
    ) -> Scanned | None:
        """``cell.scan(state, *trains, t=…)``, where t is 1 for ``everything``; None for other cells and devices,
        without the library, and where a value is not finite: ``cell.scan`` then raises the error.
        """
        library, train = _native.load()[0], trains[0]
        if library is None or train.device.type != "cpu" or not train.numel():
            return None
        if (rounding := cell.rounding) is not None:
            return _rounded(library, rounding, state, trains, everything)
        if not is_plain(cell, SigmaDelta):
            return None
        train = _dense(train)
        now = train[0]
        estimate, sent = (torch.empty_like(now, dtype=torch.float64).copy_(part) for part in state)
        levels = torch.empty_strided(train.shape, train.stride(), dtype=torch.float32)
        key = name, now.is_contiguous()
        if key not in self.rows:
            self.rows[key] = _row(cell.threshold, now), _row(cell.initial, now)
        threshold, initial = self.rows[key]
        call = _native.Scan(
            threshold=threshold.data_ptr(), initial=initial.data_ptr(), period=len(threshold), steps=len(train),
            all_digits=cell.rule == "all", top=2.0 ** (cell.threshold_count - 1),
            fine=FINE, off_grid=OFF_GRID, near=NEAR,
        )  # fmt: skip
        if not is_plain(cell.source, (Unchanged, ReLU, Clip)):
            unclear = _by_function(library, call, cell, train, estimate, sent, levels)
            return (estimate, sent), levels, unclear
        call.source = SAME
        if is_plain(cell.source, (ReLU, Clip)):
            ceiling = cell.source.ceiling
            call.source, call.ceiling = CLIP, torch.inf if ceiling is None else ceiling
        _point(call, train, estimate, sent, levels)
        library.tp_sigma_delta(ctypes.byref(call))
        return None if call.broken else ((estimate, sent), levels, 0)


def _rounded(
    library: ctypes.CDLL, rounding: Rounding, state: tuple[Tensor, ...], trains: list[Tensor], everything: bool
) -> Scanned:
    """An operator whose values are rounded: where its inputs changed."""
    call = _native.Rounding(grid=rounding.grid, room=rounding.room, near=rounding.near)
    unclear = 0

    def update(sums: Sequence[Tensor], values: Tensor, changes: Tensor) -> None:
        nonlocal unclear
        found = rounding.value(*sums).to(torch.float64).contiguous()
        call.value, call.values, call.changes = found.data_ptr(), values.data_ptr(), changes.data_ptr()
        call.count = found.numel()
        call.threads = 1 if call.count < SMALL else torch.get_num_threads()
        library.tp_round(ctypes.byref(call))
        unclear += call.unclear

    sums, value, sent = steps_apart(rounding.op, state[:-1], state[-1], trains, update, everything)
    return (*sums, value), sent, unclear


def _dense(train: Tensor) -> Tensor:
    """The same numbers, (time, batch, *shape), without gaps: steps one after the other, channels first or last."""
    now = train[0]
    dense = now.is_contiguous() or (now.ndim == 4 and now.is_contiguous(memory_format=torch.channels_last))
    train = train if dense and (len(train) == 1 or train.stride(0) == now.numel()) else train.contiguous()
    return train if train.dtype in (torch.float32, torch.float64) else train.double()


def _by_function(
    library: ctypes.CDLL, call: Any, cell: SigmaDelta, train: Tensor, estimate: Tensor, sent: Tensor, levels: Tensor
) -> int:
    """Steps of a few samples at a time, with the function's values from torch. Returns the sum of ``undecided``."""
    unclear, certain = 0, cell.source.rectifies or cell.source.is_sum
    call.source, call.steps = GIVEN, 1
    samples = max(1, TOGETHER // max(1, estimate[0].numel()))
    for start in range(0, len(estimate), samples):
        part, value = slice(start, start + samples), None
        for k in range(len(train)):
            here, moved = estimate[part], train[k][part]
            here += moved
            value = _value(cell.source, here, moved, value)
            _point(call, None, here, sent[part], levels[k][part])
            call.value = value.data_ptr()
            library.tp_sigma_delta(ctypes.byref(call))
            unclear += 0 if certain else call.unclear
    return unclear


def _value(source: Op, estimate: Tensor, moved: Tensor, before: Tensor | None) -> Tensor:
    """f(E) in the order of E's memory. ``before``, if any, holds it for the E before it ``moved``, and is changed."""
    if before is not None and not source.tensors():  # tensors may differ from neuron to neuron
        here = _in_order(moved).nonzero()[:, 0]
        if 2 * len(here) < estimate.numel():
            if len(here):
                _in_order(before)[here] = finite(source.run(_in_order(estimate)[here, None]), source)[:, 0]
            return before
    value = finite(source.run(estimate), source)
    if value.stride() != estimate.stride() or value.dtype != estimate.dtype:
        value = torch.empty_like(estimate).copy_(value)
    return value


def _in_order(value: Tensor) -> Tensor:
    """A view in the order of memory, (numbers,), of a tensor without gaps whose channels are first or last."""
    return (value if value.is_contiguous() else value.permute(0, 2, 3, 1)).view(-1)


def _point(call: Any, train: Tensor | None, estimate: Tensor, sent: Tensor, levels: Tensor) -> None:
    """Arrays in the same order, of whole samples."""
    if train is not None:
        call.wide, call.narrow = (train.data_ptr(), None) if train.dtype == torch.float64 else (None, train.data_ptr())
    call.estimate, call.sent, call.levels = estimate.data_ptr(), sent.data_ptr(), levels.data_ptr()
    call.neurons = estimate.numel()
    call.threads = 1 if estimate.numel() < SMALL else torch.get_num_threads()


def _row(value: Tensor, like: Tensor) -> Tensor:
    """``value`` for the neurons of a sample in the order of ``like``'s memory, or for the first ones if they repeat."""
    sample = like[0]
    found = value.double().reshape(value.shape[max(0, value.ndim - sample.ndim) :]).expand(sample.shape)
    if not like.is_contiguous():
        found = found.permute(1, 2, 0)
    while found.ndim and (found.stride(0) == 0 or found.shape[0] == 1):
        found = found[0]
    found = found.reshape(-1)
    return found.repeat(max(1, REPEATED // len(found))).contiguous()
