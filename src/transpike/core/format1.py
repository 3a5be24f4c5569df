"""Files of format version 1: the names of classes and fields that have changed since."""

from collections.abc import Mapping
from typing import Any

TYPES: dict[str, str] = {
    "AfterRehearsal": "AfterPreSimulation",
    "DifferentialLadder": "DifferentialMultiThreshold",
    "Kept": "AnalogueOp",
    "Latch": "Integrator",
    "Prospect": "PendingInput",
    "ThresholdLadder": "MultiThreshold",
}
"""Class name in a file of version 1 → class name today. A class that is not listed has kept its name."""

_SCALE = {"worth": "spike_scale"}
_STEPS = {"rehearsal": "pre_simulation_steps"}
_WAIT = {"hold": "wait_steps"}
_COUNT = {"rungs": "threshold_count"}
FIELDS: dict[str, dict[str, str]] = {
    "Bistable": _SCALE,
    "Burst": _SCALE,
    "COS": _STEPS,
    "DCGS": _COUNT,
    "DifferentialLadder": _SCALE | _COUNT,
    "ExactReLU": _SCALE,
    "FirstCrossing": _SCALE,
    "FirstSpike": _SCALE,
    "GatedMaximum": _STEPS,
    "HMT": _COUNT,
    "IntegrateAndFire": _SCALE,
    "Latched": _SCALE,
    "LateralInhibition": _STEPS,
    "LayerSynchronous": _WAIT,
    "OffsetCorrected": _SCALE | _STEPS,
    "Prospect": _SCALE,
    "ResidualGate": _SCALE | _STEPS,
    "SRP": _STEPS,
    "SignedIntegrateAndFire": _SCALE,
    "Switched": _SCALE,
    "T2FSNN": _WAIT,
    "TemporalDifference": _STEPS,
    "ThresholdLadder": _SCALE | _COUNT,
    "TimeSlots": _WAIT,
}
"""Class name in a file of version 1 → {old field: new field}. "SNN" represents the top level of the file."""

VALUES: dict[tuple[str, str], dict[str, Any]] = {}
"""(class name, field) in a file of version 1 → {old setting: new setting}, for renamed settings."""


def translated(
    value: Any,
    types: Mapping[str, str] = TYPES,
    fields: Mapping[str, Mapping[str, str]] = FIELDS,
    values: Mapping[tuple[str, str], Mapping[str, Any]] = VALUES,
) -> Any:
    """Encoded data (``core.codec``) of version 1 under today's names; tensor names stay as in the file."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("tuple"), list):
        return {"tuple": [translated(item, types, fields, values) for item in value["tuple"]]}
    if isinstance(value.get("dict"), dict):
        return {"dict": {key: translated(item, types, fields, values) for key, item in value["dict"].items()}}
    old = value.get("type")
    if not isinstance(old, str) or not isinstance(value.get("fields"), dict):
        return value
    renamed, found = fields.get(old, {}), {}
    for name, item in value["fields"].items():
        words = values.get((old, name), {})
        item = words.get(item, item) if isinstance(item, str) else translated(item, types, fields, values)
        found[renamed.get(name, name)] = item
    return {**value, "type": types.get(old, old), "fields": found}


def content(found: dict[str, Any]) -> dict[str, Any]:
    """The whole content of a file of version 1, in the form of version 2."""
    outer = FIELDS.get("SNN", {})
    return {outer.get(name, name): translated(part) for name, part in found.items()}
