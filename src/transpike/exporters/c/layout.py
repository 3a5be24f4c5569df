"""How arrays lie in the memory of the C network: identifiers, order, and the narrowest integer types."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from transpike.lowering.whole import Entrance, Integers, Layer, Term, Whole
from transpike.lowering.whole_terms import charge_shape

BYTES = {f"{sign}int{bits}_t": bits // 8 for bits in (8, 16, 32, 64) for sign in ("", "u")}


def signed_type(low: int, high: int) -> str:
    """The narrowest signed type that holds low … high."""
    return next(f"int{bits}_t" for bits in (8, 16, 32, 64) if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1))


def unsigned_type(high: int) -> str:
    """The narrowest unsigned type that holds 0 … high."""
    return next(f"uint{bits}_t" for bits in (8, 16, 32, 64) if high < 2**bits)


def narrowest_type(low: int, high: int) -> str:
    """The narrowest type that holds low … high, signed if both kinds are as wide."""
    signed = signed_type(low, high)
    return signed if low < 0 or BYTES[unsigned_type(high)] == BYTES[signed] else unsigned_type(high)


def type_of(values: Integers) -> str:
    """The narrowest type that holds all values."""
    return narrowest_type(int(values.min()), int(values.max())) if values.size else "int8_t"


def identifiers(names: Iterable[str]) -> list[str]:
    """A C identifier for each name; different ones, also for equal names."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "layer"
        number, chosen = 2, plain
        while chosen in found:
            number, chosen = number + 1, f"{plain}_{number}"
        found.append(chosen)
    return found


@dataclass(frozen=True, eq=False)
class Array:
    """The levels or potentials of one entrance or layer, which has the elements of ``shape`` in its order.

    ``view``: the shape that decides where they lie; with ``features_last`` its axis 0 comes last.
    """

    identifier: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    features_last: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def memory_shape(self) -> tuple[int, ...]:
        return (*self.view[1:], self.view[0]) if self.features_last else self.view or (1,)

    @cached_property
    def positions(self) -> Integers:
        """For each flat position of ``shape`` the index in memory."""
        order = np.arange(self.size, dtype=np.int64).reshape(self.memory_shape)
        return (np.moveaxis(order, -1, 0) if self.features_last else order).ravel()

    def stored(self, values: Integers) -> Integers:
        """``values`` (…, *shape) in the order of memory: (…, size)."""
        flat = values.reshape(*values.shape[: values.ndim - len(self.shape)], self.size)
        found = np.empty_like(flat)
        found[..., self.positions] = flat
        return found

    def spread(self, values: Integers) -> Integers:
        """``values``, broadcastable to ``shape``, in the order of memory: (size,)."""
        return self.stored(np.broadcast_to(values, self.shape))

    def read(self, stored: Integers) -> Integers:
        """Inverse of ``stored``."""
        return stored[..., self.positions].reshape(*stored.shape[:-1], *self.shape)


def terms_into(whole: Whole, layer: Layer) -> list[Term]:
    """The terms of a layer, and those that its charges come from."""
    entrances = [whole.table[name] for name in layer.currents]
    return [*layer.terms, *(one.front.term for one in entrances if isinstance(one, Entrance) and one.front)]


def _has_positions(term: Term) -> bool:
    """True for a linear layer on the last axis of several positions, such as tokens."""
    return term.kind == "linear" and len(term.shape) > 1


def mixes_orders(whole: Whole, layer: Layer) -> bool:
    """True if the terms of a layer give their outputs in different orders of memory."""
    terms = terms_into(whole, layer)
    shapes = {charge_shape(term) for term in terms if term.kind == "conv"}
    return len(shapes) > 1 or (bool(shapes) and any(map(_has_positions, terms)))


def arrays(whole: Whole) -> dict[str, Array]:
    """Name → array. Where convolutions or pooling read or write, features come last: inner loops are contiguous."""
    names = dict(zip(whole.table, identifiers(whole.table), strict=True))
    last: dict[str, bool] = {}
    views = {name: one.shape for name, one in whole.table.items()}
    for layer in whole.layers:
        shapes = [charge_shape(term) for term in layer.terms if term.kind == "conv"]
        views[layer.name] = shapes[0] if shapes else layer.shape
        last[layer.name] = len(views[layer.name]) > 1 and not any(map(_has_positions, terms_into(whole, layer)))
        for term in layer.terms:
            if isinstance(whole.table[term.source], Entrance):
                last[term.source] = last.get(term.source, False) or (term.kind == "conv" and term.index is None)
        for name in layer.currents:
            views[name], last[name] = views[layer.name], last[layer.name]
        if layer.source and isinstance(whole.table[layer.source], Entrance):
            last[layer.source] = True
    return {
        name: Array(names[name], one.shape, views[name], last.get(name, False)) for name, one in whole.table.items()
    }


@dataclass(frozen=True, eq=False)
class Routes:
    """From events of a source to positions of x, in the orders in which both are stored.

    ``first`` None: event e is at position e if ``to`` is None, else at to[e], or nowhere if that is −1. Otherwise event
    e is at the positions to[first[e]], …, to[first[e + 1] − 1].
    """

    to: Integers | None = None
    first: Integers | None = None


def sources_of(term: Term, source: Array, x: Array) -> Integers:
    """For each position of x in memory the index of its source in memory, or −1."""
    flat = np.arange(x.size, dtype=np.int64) if term.index is None else term.index.ravel()
    found = np.full(x.size, -1, np.int64)
    found[x.positions] = np.where(flat < 0, -1, source.positions[np.maximum(flat, 0)])
    return found


def routes(sources: Integers, size: int) -> Routes:
    """The inverse of ``sources_of`` for a source of ``size`` elements."""
    positions = np.flatnonzero(sources >= 0)
    read = sources[positions]
    order = np.argsort(read, kind="stable")
    counts = np.bincount(read, minlength=size)
    if (counts > 1).any():
        return Routes(positions[order], np.concatenate([[0], np.cumsum(counts)]))
    to = np.full(size, -1, np.int64)
    to[read] = positions
    return Routes() if np.array_equal(to, np.arange(size)) else Routes(to)


def x_of(term: Term, target: Array) -> Array:
    """The array of x: of a convolution with features last, of a scale in the order of the layer."""
    if term.kind == "scale":
        return Array("", term.shape, target.view, target.features_last)
    return Array("", term.shape, term.shape, term.kind == "conv" and len(term.shape) > 1)
