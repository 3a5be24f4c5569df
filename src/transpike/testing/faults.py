"""Faults that a proof of an export must find, as changes of the network that an exporter writes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from transpike.lowering.whole import Layer, Whole

Fault = Callable[[Whole], Whole | None]
"""The changed network; None where it has nothing to change."""


def _changed(whole: Whole, kind: str, change: Callable[[Layer], Layer | None]) -> Whole | None:
    """``whole`` with the first layer of this kind that ``change`` changes."""
    for place, layer in enumerate(whole.layers):
        found = change(layer) if layer.kind == kind else None
        if found is not None:
            return replace(whole, layers=(*whole.layers[:place], found, *whole.layers[place + 1 :]))
    return None


def _strict(whole: Whole) -> Whole | None:
    """Fires where v > threshold, in all layers: where v = threshold it does not."""
    layers = [replace(one, threshold=one.threshold + 1) if one.kind == "integrate" else one for one in whole.layers]
    return replace(whole, layers=tuple(layers))


def _reset(whole: Whole) -> Whole | None:
    other = {"subtract": "zero", "zero": "subtract"}
    return _changed(whole, "integrate", lambda one: replace(one, reset=other[one.reset]))  # type: ignore[arg-type]


def _initial(whole: Whole) -> Whole | None:
    return _changed(
        whole, "integrate",
        lambda one: replace(one, initial=np.where(one.initial == 0, one.threshold // 2, 0)),
    )  # fmt: skip


def _weight(whole: Whole) -> Whole | None:
    def change(layer: Layer) -> Layer | None:
        if not layer.terms:
            return None
        weight = layer.terms[0].weight.copy()
        weight.flat[weight.size // 2] += 1
        return replace(layer, terms=(replace(layer.terms[0], weight=weight), *layer.terms[1:]))

    return _changed(whole, "readout", change)


def _residual(whole: Whole) -> Whole | None:
    return _changed(whole, "integrate", lambda one: replace(one, terms=one.terms[:-1]) if len(one.terms) > 1 else None)


def _pool(whole: Whole) -> Whole | None:
    """Windows without their last row: of spikes that come at the same time, others win."""

    def change(layer: Layer) -> Layer | None:
        assert layer.pool is not None
        if layer.pool.kernel[0] < 2:
            return None
        kernel = (layer.pool.kernel[0] - 1, *layer.pool.kernel[1:])
        return replace(layer, pool=replace(layer.pool, kernel=kernel))

    return _changed(whole, "maximum", change)


FAULTS: dict[str, Fault] = {
    "comparison": _strict,
    "reset": _reset,
    "initial potential": _initial,
    "one weight": _weight,
    "dropped residual": _residual,
    "pooling window": _pool,
}


def _comparison_of_slots(whole: Whole) -> Whole | None:
    """Fires one unit below the threshold, in all slots: where v > θ is asked, also at v = θ."""

    def change(layer: Layer) -> Layer:
        if layer.kind != "first-spike" or layer.slots is None:
            return layer
        return replace(layer, slots=replace(layer.slots, thresholds=layer.slots.thresholds - 1))

    return replace(whole, layers=tuple(map(change, whole.layers)))


def _later(whole: Whole) -> Whole | None:
    """Among the first neurons, those that fire in the second slot or after it fire one slot later."""

    def change(layer: Layer) -> Layer | None:
        assert layer.slots is not None
        limits = layer.slots.thresholds
        return replace(layer, slots=replace(layer.slots, thresholds=np.concatenate([limits[:1], limits[:-1]])))

    return _changed(whole, "first-spike", change)


def _level(whole: Whole) -> Whole | None:
    """A spike of the first neurons in the first slot sends 1 more, also through pooling and delays."""
    layers: list[Layer] = []
    higher: set[str] = set()
    for layer in whole.layers:
        if layer.slots is not None and (not higher or layer.source in higher):
            higher.add(layer.name)
            levels = layer.slots.levels.copy()
            levels[0] += 1
            layer = replace(layer, slots=replace(layer.slots, levels=levels))
        layers.append(layer)
    return replace(whole, layers=tuple(layers))


def _bias(whole: Whole) -> Whole | None:
    return _changed(
        whole, "first-spike", lambda one: replace(one, bias=np.zeros_like(one.bias)) if one.bias.any() else None
    )


def _shortcut(whole: Whole) -> Whole | None:
    return _changed(
        whole, "first-spike", lambda one: replace(one, terms=one.terms[:-1]) if len(one.terms) > 1 else None
    )


FIRST_SPIKE_FAULTS: dict[str, Fault] = {
    "comparison": _comparison_of_slots,
    "slot": _later,
    "level of a slot": _level,
    "bias": _bias,
    "one weight": _weight,
    "dropped residual": _shortcut,
    "pooling window": _pool,
}
"""Those of first-spike networks."""
