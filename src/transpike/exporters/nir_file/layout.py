"""How populations lie in a NIR file: channels first, thresholds between 1 and 2, half a grid step off the threshold."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transpike.errors import UnsupportedModel
from transpike.lowering.whole import Entrance, Layer, Whole
from transpike.lowering.whole_terms import charge_shape

ELSEWHERE = "export it to golden, onnx or c"
"""The remedy where only NIR has no form."""


@dataclass(frozen=True)
class Form:
    """How a file is written: see ``Nir``. ``dimensions``: axes of space of every population; ``pulse``: it has one."""

    profile: Literal["soft", "hard"]
    neuron: Literal["CubaLIF", "IF"]
    bits: int
    dimensions: int
    pulse: bool

    @property
    def ones(self) -> tuple[int, ...]:
        return (1,) * self.dimensions


def form_of(
    whole: Whole, profile: Literal["soft", "hard"], neuron: Literal["CubaLIF", "IF"], bits: int, one_axis: bool
) -> Form:
    """The form of a file for this network; ``one_axis``: the reader knows convolutions over one axis."""
    dimensions = max([len(one.shape) for one in whole.entrances] + [len(one.shape) for one in whole.layers]) - 1
    pulse = profile == "soft" or any(layer.initial.any() for layer in whole.layers)
    return Form(profile, neuron, bits, 2 if dimensions == 1 and not one_axis else dimensions, pulse)


def in_order_of_charge(whole: Whole) -> Whole:
    """The network with every layer in the shape of its charge, where a flattening lies between weights and neurons."""
    return replace(whole, layers=tuple(_in_order_of_charge(layer) for layer in whole.layers))


def _in_order_of_charge(layer: Layer) -> Layer:
    for term in () if layer.currents else layer.terms:
        if term.kind == "scale" or (term.kind == "linear" and len(term.shape) == 1):
            continue
        shape, axis = charge_shape(term), 0 if term.kind == "conv" else len(term.shape) - 1
        if shape != layer.shape:
            bias, threshold, initial = (
                np.broadcast_to(value, layer.shape).reshape(shape)
                for value in (layer.bias, layer.threshold, layer.initial)
            )
            unit = layer.unit
            if unit.size > 1:  # of a layer in one line
                unit = np.moveaxis(unit.reshape(shape), axis, 0).reshape(shape[axis], -1)[:, 0]
            return replace(layer, shape=shape, axis=axis, unit=unit, bias=bias, threshold=threshold, initial=initial)
    return layer


def channels_first(shape: tuple[int, ...], axis: int, dimensions: int) -> tuple[int, ...]:
    """The shape of a population in the file: channels, then ``dimensions`` axes of space."""
    space = [size for k, size in enumerate(shape) if k != axis % len(shape)]
    return (shape[axis], *space, *(1,) * (dimensions - len(space)))


def axis_of(one: Entrance | Layer, whole: Whole) -> int:
    """The axis of channels of a source, from 0."""
    if isinstance(one, Layer):
        return one.axis % len(one.shape)
    if one.kind == "charge":
        return next(layer.axis % len(layer.shape) for layer in whole.layers if one.name in layer.currents)
    read = [term for layer in whole.layers for term in layer.terms if term.source == one.name]
    last = all(term.kind == "linear" and len(term.shape) > 1 for term in read)
    return len(one.shape) - 1 if last else 0


def per_channel(values: NDArray[Any], layer: Layer, what: str) -> NDArray[Any]:
    """(channels,) of a value that broadcasts to the layer's shape. Raises UnsupportedModel if a channel has several."""
    full = np.broadcast_to(values.reshape(values.shape or (1,)), layer.shape)
    rows = np.moveaxis(full, layer.axis, 0).reshape(layer.shape[layer.axis], -1)
    if not (rows == rows[:, :1]).all():
        way_out = "convert without input_bits" if layer.currents else "use one value for each channel"
        raise UnsupportedModel(
            f"{layer.name}: {what} differs within a channel, but a NIR file has one number for each channel; "
            f"{way_out}, or {ELSEWHERE}"
        )
    return rows[:, 0]


def threshold_counts(layer: Layer) -> NDArray[np.float64]:
    """(channels,): grid steps."""
    return per_channel(layer.threshold, layer, "the threshold").astype(np.float64)


def initial_counts(layer: Layer) -> NDArray[np.float64]:
    """(channels,): grid steps."""
    return per_channel(layer.initial, layer, "the initial potential").astype(np.float64)


def grid_of(layer: Layer) -> NDArray[np.float64]:
    """(channels,): what 1 is in the file, a power of two that puts the threshold between 1 and 2."""
    if layer.kind == "readout":
        return np.full(layer.shape[layer.axis], float(layer.unit.reshape(-1)[0]))
    return np.exp2(-np.floor(np.log2(threshold_counts(layer))))


def threshold_of(layer: Layer, form: Form) -> NDArray[np.float64]:
    """(channels,): on the grid where the pulse puts potentials next to it, else half of the finest step below it."""
    grid = grid_of(layer)
    real = threshold_counts(layer) * grid
    return real if form.profile == "soft" else real - grid.min() / 2
