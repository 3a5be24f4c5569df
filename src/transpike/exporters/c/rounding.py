"""Weights of 8 bits or fewer: an integer network with smaller integers, and so another network."""

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from transpike.errors import UnsupportedModel
from transpike.exporters.c.ranges import range_of
from transpike.lowering.whole import Integers, Layer, Term, Whole
from transpike.lowering.whole_terms import charge_shape, compact


def rounded(whole: Whole, bits: int) -> Whole:
    """``whole`` with weights of ``bits`` bits, sign included.

    The weights, bias and potentials of a neuron are multiplied by one factor and rounded: by θ′ / θ with the largest
    whole threshold θ′ for which its weights fit, so that the threshold itself is not rounded. Neurons of one channel of
    a convolution have one factor; those whose weights fit keep theirs. All outputs have one factor.
    """
    layers = []
    for layer in whole.layers:
        changed = layer if layer.kind == "maximum" or not layer.terms else _layer(layer, 2 ** (bits - 1) - 1)
        layers.append(changed)
    found = replace(whole, layers=tuple(layers))
    return replace(
        found, layers=tuple(_bounded(found, one, old) for one, old in zip(layers, whole.layers, strict=True))
    )


def _bounded(whole: Whole, layer: Layer, old: Layer) -> Layer:
    if layer is old:
        return layer
    found = range_of(whole, layer)
    return replace(layer, bound=np.full((1,) * len(layer.shape), max(-found.low, found.high), np.int64))


def _layer(layer: Layer, most: int) -> Layer:
    groups = np.zeros(prod(layer.shape), np.int64) if layer.kind == "readout" else _groups(layer)
    peak = np.zeros(groups.max() + 1, np.int64)
    for term in layer.terms:
        np.maximum.at(peak, groups, _per_neuron(np.abs(term.weight), term).ravel())
    if (peak <= most).all():
        return layer
    if layer.currents:
        raise UnsupportedModel(
            f"{layer.name} gets charges besides spikes, which would have to be rounded too: export without weight_bits"
        )
    threshold = np.zeros_like(peak)
    np.maximum.at(threshold, groups, np.broadcast_to(layer.threshold, layer.shape).ravel())
    if layer.kind == "readout":
        factors = most / np.maximum(peak, 1)
    else:
        factors = np.maximum(threshold * most // np.maximum(peak, 1), 1) / np.maximum(threshold, 1)
    factors = np.where(peak <= most, 1.0, factors)
    factor = factors[groups].reshape(layer.shape)

    def whole_numbers(values: Integers) -> Integers:
        return compact(np.rint(np.broadcast_to(values, layer.shape) * factor).astype(np.int64))

    terms = tuple(_rounded(term, factor, most) for term in layer.terms)
    return replace(
        layer,
        terms=tuple(term for term in terms if term.weight.any()),
        bias=whole_numbers(layer.bias),
        threshold=whole_numbers(layer.threshold),
        initial=whole_numbers(layer.initial),
        unit=layer.unit / (factors[0] if layer.kind == "readout" else _along(factor, layer)),
    )


def _along(factor: NDArray[np.float64], layer: Layer) -> NDArray[np.float64]:
    """One factor for each channel of the layer's units."""
    if not factor.ndim or layer.unit.size == 1:
        return factor.ravel()[:1]
    return np.moveaxis(factor, layer.axis, 0).reshape(factor.shape[layer.axis], -1)[:, 0]


def _groups(layer: Layer) -> Integers:
    """For each neuron the number of its group: neurons that share weights have one factor."""
    rows = [_rows(term) for term in layer.terms if term.kind != "scale"]
    size = prod(layer.shape)
    several = [one for one in rows if len(np.unique(one)) < size]
    if not several:
        return np.arange(size)
    same = all(np.array_equal(several[0], one) for one in several)
    return several[0] if same else np.zeros(size, np.int64)


def _rows(term: Term) -> Integers:
    """For each neuron, in order, the row of weights that it reads."""
    shape = charge_shape(term)
    rows = np.arange(len(term.weight))
    along = rows.reshape(-1, *[1] * (len(shape) - 1)) if term.kind == "conv" else rows
    return np.broadcast_to(along, shape).ravel()


def _per_neuron(weight: Integers, term: Term) -> Integers:
    """The largest of ``weight`` (not negative) that each neuron reads."""
    if term.kind == "scale":
        return np.broadcast_to(weight, term.shape)
    return weight.reshape(len(weight), -1).max(1)[_rows(term)]


def _rounded(term: Term, factor: NDArray[np.float64], most: int) -> Term:
    if term.kind == "scale":
        values = np.broadcast_to(term.weight, term.shape) * factor.reshape(term.shape)
        return replace(term, weight=compact(np.clip(np.rint(values), -most, most).astype(np.int64)))
    first = np.zeros(len(term.weight))
    first[_rows(term)] = factor.ravel()
    values = term.weight * first.reshape(-1, *[1] * (term.weight.ndim - 1))
    return replace(term, weight=np.clip(np.rint(values), -most, most).astype(np.int64))
