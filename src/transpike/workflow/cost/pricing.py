"""The prices of an energy model for both networks, and how much they depend on its constants."""

import dataclasses

from transpike.core.activity import Activity
from transpike.energy import AnnActivity, EnergyModel
from transpike.results.quantity import Quantity
from transpike.snn import SNN
from transpike.workflow.cost.result import ModelCost
from transpike.workflow.evaluate.tally import function_evaluations

SENSITIVITY = 2.0
"""Each constant is divided and multiplied by this factor for the sensitivity of the ratio."""


def left_out(snn: SNN, activity: Activity, ann: AnnActivity) -> tuple[str, ...]:
    """Operations that no model prices: functions, by name, and layers with an unknown number of multiplications."""
    found = []
    for name, counts in function_evaluations(snn.source, activity).items():
        often = f"SNN {counts['executed']:,.0f}, of which {counts['changed']:,.0f} where an input changed"
        found.append(f"evaluations of {name} ({often}; ANN {counts['ann']:,.0f})")
    layers = ann.unpriced | activity.unpriced
    unknown = [name for name, what in layers.items() if "unknown" in what]
    return (*found, f"multiplications of {', '.join(unknown)}, of unknown number") if unknown else tuple(found)


def priced(
    model: EnergyModel, activity: Activity, ann: AnnActivity, rate: float, excluded: tuple[str, ...]
) -> ModelCost:
    """Both networks by one model; ``rate`` in spikes per neuron and step, ``excluded``: what no model prices."""
    snn, skipping, dense = model.joule(activity), model.ann_joule(ann, True), model.ann_joule(ann, False)
    ratio = None if snn is None or not skipping else snn / skipping
    break_even, missing = _break_even(model, activity, snn, skipping)
    return ModelCost(
        model=str(model),
        snn_joule=snn,
        ann_joule=skipping,
        dense_joule=dense,
        ratio=ratio,
        dense_ratio=None if snn is None or not dense else snn / dense,
        break_even_rate=None if break_even is None else break_even * rate,
        break_even_spikes_per_synapse=None if break_even is None else break_even * activity.spikes_per_synapse,
        break_even_missing=missing,
        sensitivity={} if ratio is None else _sensitivity(model, activity, ann),
        judges=model.judges,
        excluded=(*model.excluded, *excluded),
        constants={name: str(value) for name, value in model.constants.items()},
    )


def _break_even(
    model: EnergyModel, activity: Activity, snn: float | None, ann: float | None
) -> tuple[float | None, str]:
    """(factor on the spikes at which the SNN costs as much as the ANN, reason where there is none)."""
    if snn is None or ann is None:
        return None, f"the model does not price the {'spiking network' if snn is None else 'ANN'}"
    if not any(bool(layer.spikes.any()) for layer in activity.layers):
        return None, "there are no spikes"
    still = model.joule(activity.busier(0.0)) or 0.0
    if still > ann:
        return None, "the spiking network costs more than the ANN even without spikes"
    if snn <= still:
        return None, "spikes cost nothing under this model"
    return (ann - still) / (snn - still), ""


def _sensitivity(model: EnergyModel, activity: Activity, ann: AnnActivity) -> dict[str, tuple[float, float]]:
    """Constant → the ratios with half and twice its value."""
    found = {}
    for name, value in model.constants.items():
        pair = []
        for factor in (1 / SENSITIVITY, SENSITIVITY):
            changed = dataclasses.replace(model, **{name: Quantity(value.value * factor, value.unit, value.source)})
            snn, other = changed.joule(activity), changed.ann_joule(ann, True)
            if snn is not None and other:
                pair.append(snn / other)
        if len(pair) == 2:
            found[name] = (pair[0], pair[1])
    return found
