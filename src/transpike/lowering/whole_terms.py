"""From the ways of levels to the terms of the integer form: weights as integers, wiring as indices."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transpike.core.channels import resolved, shaped
from transpike.core.graph import Input, Node
from transpike.core.plain import is_plain
from transpike.errors import UnsupportedModel
from transpike.lowering.rounding_points import OnGrid
from transpike.lowering.whole import Front, Integers, Layer, Term
from transpike.lowering.whole_paths import Path, in_order, keeps_order, matrix, moved
from transpike.ops.average import AvgPool
from transpike.ops.conv import Conv
from transpike.ops.linear import Linear
from transpike.ops.scale import Scale

Number = TypeVar("Number", np.int64, np.float64)
MOST_WEIGHTS = 2**22
"""The largest matrix that represents a way that has no smaller form."""


def integers(values: Tensor, unit: Tensor, where: str) -> Integers:
    """``values / unit``, which must be whole."""
    found = (values.double() / unit).numpy()
    whole = np.rint(found)
    if not np.array_equal(found, whole):
        raise UnsupportedModel(f"{where} is not on the grid, so it has no integers; convert with exact_grid=True")
    return whole.astype(np.int64)


def terms_of(table: Mapping[str, Node], path: Path, unit: Tensor, reader: str) -> list[Term]:
    """The terms of one way of levels to the layer ``reader``; ``unit`` is (*shape).

    Raises UnsupportedModel for a way that has no form with integers of a reasonable size.
    """
    found = _layer_of_weights(table, path, unit)
    if found is not None:
        return found
    dense = matrix(table, path, MOST_WEIGHTS)
    if dense is None:
        raise UnsupportedModel(_too_large(path, reader))
    name = next((node.name for node in path.nodes if node.op.role == "synapse"), path.nodes[-1].name)  # type: ignore[union-attr]
    weight = integers(dense, unit.reshape(-1, 1), name)
    return [Term(name, path.source, "linear", weight, (dense.shape[1],))]


def front_of(table: Mapping[str, Node], wire: str, unit: Tensor, ends: tuple[int, int]) -> Front | None:
    """How the constant current of a wire comes from an input of integers through one layer of weights.

    ``unit`` (*shape) is that of the charge; ``ends`` the smallest and the largest input. None for other currents.
    """
    node = table[wire]
    synapse = table[node.inputs[0]] if isinstance(node.op, OnGrid) else None
    if synapse is None or not is_plain(synapse.op, (Conv, Linear)) or _is_transposed(synapse):
        return None
    before: list[Node] = []
    source = table[synapse.inputs[0]]
    while type(source.op) is not Input:
        if len(source.inputs) != 1 or source.op.role != "wiring":  # type: ignore[union-attr]
            return None
        before.insert(0, source)
        source = table[source.inputs[0]]
    wiring = moved(table, Path(source.name, tuple(before), (0,) * len(before)))
    if wiring is None or len(wiring[0]) > 1 or wiring[1] != 1 or synapse.shape != tuple(unit.shape):
        return None
    axis = 0 if isinstance(synapse.op, Conv) else len(synapse.shape) - 1
    finest = _finest(synapse.op.weight.double())
    channels = _per_channel(unit, axis)
    if channels is None:
        return None
    shift = torch.log2(channels / finest).clamp(min=0).round()
    fine = shaped(channels * torch.exp2(-shift), axis + 1, len(synapse.shape)).expand(synapse.shape)
    found = _terms(synapse, source.name, fine, 1, table[synapse.inputs[0]].shape)
    if found is None:
        return None
    index = None if in_order(wiring[0], prod(source.shape)) else wiring[0][0].numpy()
    by_channel = shaped(shift, axis + 1, len(synapse.shape)).numpy().astype(np.int64)
    return Front(source.name, source.shape, *ends, replace(found[0], index=index), compact(by_channel))


def _finest(weight: Tensor) -> Tensor:
    """The largest power of two that divides all weights of a row, for each row."""
    mantissa, exponent = np.frexp(weight.flatten(1).numpy())
    digits = (mantissa * 2.0**53).astype(np.int64)
    low = np.where(digits == 0, 2.0**60, np.exp2(exponent - 53.0) * (digits & -digits))
    return torch.from_numpy(low.min(1))


def _too_large(path: Path, reader: str) -> str:
    ways = " → ".join([path.source, *(f"{node.name} ({node.op.describe()})" for node in path.nodes), reader])
    synapses = sum(node.op.role == "synapse" for node in path.nodes)  # type: ignore[union-attr]
    if synapses > 1:
        reason = "a current passes two layers of weights before a neuron: put a neuron (an activation) between them"
    elif not synapses:
        reason = "no layer of weights lies before the neuron: put one there"
    else:
        reason = (
            "what stands between the layer of weights and the neuron moves or mixes currents: move it after the neuron"
        )
    return f"{ways} has no form with integers of a reasonable size: {reason}"


def _layer_of_weights(table: Mapping[str, Node], path: Path, unit: Tensor) -> list[Term] | None:
    """The terms of a way with one layer of weights whose charge arrives in its order; None for other ways."""
    before, rest = path.split()
    if rest is None:
        return None
    node = rest.nodes[0]
    after = keeps_order(table, Path(node.name, rest.nodes[1:], rest.places[1:]))
    if after is None or not is_plain(node.op, (Conv, Linear, Scale)):
        return None
    unit, entering = unit.reshape(node.shape), table[node.inputs[0]].shape
    if len(before.nodes) == 1:
        folded = _with_windows(table, path.source, before.nodes[0], node)
        if folded is not None:
            return _terms(folded, path.source, unit, after, table[path.source].shape)
    wiring, size = moved(table, before), prod(table[path.source].shape)
    if wiring is None:
        return None
    index, factor = wiring
    if len(index) > 1 and len(entering) == 1 and size * prod(node.shape) <= MOST_WEIGHTS:
        return None  # one matrix, which sums as it multiplies
    found = _terms(node, path.source, unit, after * factor, entering)
    if found is None or (in_order(index, size) and not _is_transposed(node)):
        return found
    rows = [replace(found[0], index=row.numpy()) for row in index]
    return [_spread(term, node.op) if _is_transposed(node) else term for term in rows]  # type: ignore[arg-type]


def _is_transposed(node: Node) -> bool:
    return isinstance(node.op, Conv) and node.op.transposed


def _terms(node: Node, source: str, unit: Tensor, factor: int, entering: tuple[int, ...]) -> list[Term] | None:
    """The term of one layer of weights whose levels arrive in order; None if units differ within its channels."""
    op = node.op
    assert isinstance(op, (Conv, Linear, Scale))
    weight = op.weight.double() * factor
    if isinstance(op, Scale):
        rank = len(node.shape)
        full = shaped(weight, resolved(op.axis, rank), rank) if weight.ndim == 1 and rank else weight
        whole = integers(full.expand(node.shape), unit, node.name)
        return [Term(node.name, source, "scale", compact(whole), entering)]
    channels = _per_channel(unit, -1 if isinstance(op, Linear) else 0)
    if channels is None:
        return None
    if isinstance(op, Linear):
        return [Term(node.name, source, "linear", integers(weight, channels[:, None], node.name), entering)]
    weight = _turned(weight, op.groups) if op.transposed else weight
    whole = integers(weight, channels.reshape(-1, *(1,) * (weight.ndim - 1)), node.name)
    return [Term(node.name, source, "conv", whole, entering, None, op.stride, op.padding, op.dilation, op.groups)]


def _turned(weight: Tensor, groups: int) -> Tensor:
    """The kernel of a transposed convolution as that of a convolution over its spread input."""
    inputs, outputs, *kernel = weight.shape
    grouped = weight.reshape(groups, inputs // groups, outputs, *kernel).transpose(1, 2)
    return grouped.reshape(groups * outputs, inputs // groups, *kernel).flip(tuple(range(2, weight.ndim)))


def _spread(term: Term, op: Conv) -> Term:
    """The term of a transposed convolution: zeros lie between its levels and around them."""
    assert term.index is not None
    channels, *space = term.index.shape
    kernel = op.weight.shape[2:]
    left = [d * (k - 1) - p for d, k, p in zip(op.dilation, kernel, op.padding, strict=True)]
    right = [a + o for a, o in zip(left, op.output_padding, strict=True)]
    spread = [(n - 1) * s + 1 for n, s in zip(space, op.stride, strict=True)]
    index = np.full((channels, *spread), -1, np.int64)
    index[(slice(None), *(slice(None, None, s) for s in op.stride))] = term.index
    around = [(0, 0), *((max(a, 0), max(b, 0)) for a, b in zip(left, right, strict=True))]
    index = np.pad(index, around, constant_values=-1)
    cut = [slice(max(-a, 0), n - max(-b, 0)) for a, b, n in zip(left, right, index.shape[1:], strict=True)]
    index = index[(slice(None), *cut)]
    ones, zeros = (1,) * len(space), (0,) * len(space)
    return replace(term, shape=index.shape, index=index, stride=ones, padding=zeros)


def _with_windows(table: Mapping[str, Node], source: str, pool: Node, node: Node) -> Node | None:
    """A convolution over sums of windows as one convolution; None where its zeros would meet levels."""
    op, inner = node.op, pool.op
    if not is_plain(op, Conv) or not is_plain(inner, AvgPool) or inner.divide or op.transposed:
        return None
    space, pooled = table[source].shape[1:], pool.shape[1:]
    plain = not any(op.padding)
    apart = not any(inner.padding) and all(
        k <= s and n <= m * s for k, s, n, m in zip(inner.kernel, inner.stride, space, pooled, strict=True)
    )
    inside = all(
        (m - 1) * s + k <= n + 2 * p
        for m, s, k, n, p in zip(pooled, inner.stride, inner.kernel, space, inner.padding, strict=True)
    )
    if not inside or not (plain or apart):
        return None
    weight = op.weight
    for axis, (size, hop, step) in enumerate(zip(inner.kernel, inner.stride, op.dilation, strict=True), 2):
        count = weight.shape[axis]
        shape = list(weight.shape)
        shape[axis] = (count - 1) * step * hop + size
        wide = weight.new_zeros(shape)
        for k in range(count):
            at = k * step * hop
            wide.narrow(axis, at, size).add_(weight.narrow(axis, k, 1))
        weight = wide
    stride = tuple(a * b for a, b in zip(op.stride, inner.stride, strict=True))
    padding = tuple(a * b + p for a, b, p in zip(op.padding, inner.stride, inner.padding, strict=True))
    ones = (1,) * op.dimensions
    folded = replace(op, weight=weight, bias=None, stride=stride, padding=padding, dilation=ones)
    found = folded.linear(torch.zeros(1, *table[source].shape, dtype=weight.dtype)).shape[1:]
    return replace(node, op=folded) if tuple(found) == node.shape else None


def _per_channel(unit: Tensor, axis: int) -> Tensor | None:
    """One value for each channel on ``axis``; None if the values of a channel differ."""
    rows = unit.movedim(axis, 0).flatten(1) if unit.ndim > 1 else unit[:, None]
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def compact(values: NDArray[Number]) -> NDArray[Number]:
    """With size 1 on every axis on which all values are equal."""
    for axis in range(values.ndim):
        first = values.take([0], axis)
        if np.array_equal(np.broadcast_to(first, values.shape), values):
            values = first
    return values


def charge_shape(term: Term) -> tuple[int, ...]:
    """The shape of what a term gives."""
    weight = term.weight
    if term.kind == "scale":
        return np.broadcast_shapes(term.shape, weight.shape)
    if term.kind == "linear":
        return (*term.shape[:-1], len(weight))
    sizes = zip(term.shape[1:], weight.shape[2:], term.stride, term.padding, term.dilation, strict=True)
    return (len(weight), *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes))


def extremes(term: Term, low: int, high: int, layer: Layer) -> tuple[Integers, Integers]:
    """The smallest and the largest charge of a term in one step for levels from ``low`` to ``high``, broadcastable."""
    weight, shape = term.weight, charge_shape(term)
    ends = np.stack([weight * low, weight * high])
    least, most = ends.min(0), ends.max(0)
    if term.kind != "scale":
        least, most = least.reshape(len(weight), -1).sum(1), most.reshape(len(weight), -1).sum(1)
    if term.kind == "conv":
        least, most = (value.reshape(-1, *(1,) * (len(shape) - 1)) for value in (least, most))
    return tuple(compact(np.broadcast_to(value, shape).reshape(layer.shape)) for value in (least, most))  # type: ignore[return-value]
