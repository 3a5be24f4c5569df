"""Which numbers an ONNX file computes in, so that nothing is rounded.

Runtimes have no convolutions of wide integers. Sums over synapses therefore run in float32, on integers whose sums
stay below 2²⁴ in any order; weights that are too large for that are written as digits, each with its own sum. Charges,
potentials and totals are integers.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from transpike.errors import UnsupportedModel
from transpike.lowering.whole import Integers, Layer, Term, Whole

FLOAT_BITS = 24
FLOAT_LIMIT = 2**FLOAT_BITS
"""float32 adds integers without rounding while no sum exceeds it."""
INTEGERS: tuple[type[np.integer], ...] = (np.uint8, np.int8, np.int16, np.int32, np.int64)


def narrowest(low: int, high: int) -> np.dtype:
    """The first type of ``INTEGERS`` that holds low … high."""
    return np.dtype(next(kind for kind in INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))


def peak(whole: Whole, name: str) -> int:
    """The largest absolute level of a layer or an entrance."""
    return max(map(abs, whole.ends(name)))


def reach(term: Term, level: int) -> float:
    """The largest |charge| of one output in one step, and of any partial sum of it, for levels up to ``level``."""
    size = np.abs(term.weight.astype(np.float64))
    if term.kind == "scale":
        return float(size.max(initial=0)) * level
    axes = tuple(range(1, size.ndim)) if term.kind == "conv" else (-1,)
    return float(size.sum(axes).max(initial=0)) * level


def outcome(term: Term) -> tuple[int, ...]:
    """The shape of a term's charge, without the batch."""
    if term.kind == "scale":
        return np.broadcast_shapes(term.weight.shape, term.shape)
    if term.kind == "linear":
        return (*term.shape[:-1], len(term.weight))
    sizes = zip(term.shape[1:], term.weight.shape[2:], term.stride, term.padding, term.dilation, strict=True)
    return (len(term.weight), *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes))


def digits(term: Term, level: int) -> list[tuple[Integers, int]]:
    """(digit, factor) such that the weight is Σ digit · factor, and sums of each digit's charges are exact in float32.

    Raises UnsupportedModel if one bit of the weights is too wide already.
    """
    if reach(term, level) <= FLOAT_LIMIT:
        return [(term.weight, 1)]
    bits = FLOAT_BITS - (prod(term.weight.shape[1:]) * level - 1).bit_length()
    if bits < 1:
        raise UnsupportedModel(
            f"{term.name}: {prod(term.weight.shape[1:])} inputs of up to {level} levels add up to more than float32 "
            "holds without rounding, whatever the weights; use fewer input levels, or export to c or golden"
        )
    sign, size, found = np.sign(term.weight), np.abs(term.weight), []
    for shift in range(0, int(size.max()).bit_length(), bits):
        found.append((sign * ((size >> shift) & (2**bits - 1)), 2**shift))
    return found


def integer_type(whole: Whole, layer: Layer) -> np.dtype:
    """int32 or int64: what holds every potential of a layer and every partial sum of its charge, and its rule."""
    largest = sum(reach(term, peak(whole, term.source)) for term in layer.terms)
    largest += sum(peak(whole, name) for name in layer.currents)
    largest += sum(_largest(one) for one in (layer.bias, layer.bound, layer.threshold, layer.initial))
    if largest >= 2.0**62:
        raise UnsupportedModel(f"{layer.name}: its potentials do not fit into 64 bits; convert with fewer time steps")
    return np.dtype(np.int32 if largest < 2**31 and layer.rule.is_plain else np.int64)


def _largest(values: NDArray[np.int64]) -> float:
    return float(np.abs(values.astype(np.float64)).max(initial=0))
