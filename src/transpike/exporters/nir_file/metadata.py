"""The metadata of a NIR file: everything that its nodes cannot express."""

import hashlib
from typing import Any

import numpy as np

from transpike.core.version import __version__
from transpike.exporters.nir_file.graph import GraphWriter
from transpike.exporters.nir_file.importers import STEP
from transpike.exporters.nir_file.layout import axis_of, grid_of, initial_counts, threshold_counts
from transpike.lowering.whole import Integers, Layer, Whole


def metadata(whole: Whole, written: GraphWriter) -> dict[str, Any]:
    """For ``run`` and for readers; importers ignore it. ``whole`` has its layers as they were given."""
    entrance, form = whole.entrances[0], written.form
    unit = entrance.unit.reshape(-1).tolist()
    return {
        "written_by": f"transpike {__version__}",
        "sha256": digest(whole),
        "timesteps": whole.timesteps,
        "step_seconds": STEP,
        "profile": form.profile,
        "reset": "subtract" if form.profile == "soft" else "zero",
        "pulse": form.pulse,
        "significand_bits": form.bits,
        "input": {
            "name": entrance.name,
            "kind": entrance.kind,
            "shape": list(entrance.shape),
            "axis": axis_of(entrance, written.whole),
            "low": entrance.low,
            "high": entrance.high,
            "unit": unit if len(unit) > 1 else unit[0],
        },
        "layers": [
            {"node": written.names[layer.name], "shape": list(given.shape), **_about(layer)}
            for given, layer in zip(whole.layers, written.whole.layers, strict=True)
        ],
        "weights": written.weights,
    }


def _about(layer: Layer) -> dict[str, Any]:
    exponents = np.log2(layer.unit.reshape(-1)).astype(int).tolist()
    about = {"name": layer.name, "charge": list(layer.shape), "axis": layer.axis % len(layer.shape)}
    if layer.kind == "readout":
        return {**about, "unit_exponent": exponents[0], "start": layer.start}
    return {
        **about,
        "unit_exponents": exponents,
        "grid_exponents": np.log2(grid_of(layer)).astype(int).tolist(),
        "threshold": threshold_counts(layer).astype(int).tolist(),
        "initial": initial_counts(layer).astype(int).tolist(),
    }


def digest(whole: Whole) -> str:
    """SHA-256 of a network: the structure and the integers of all layers, in their order."""
    found = hashlib.sha256()

    def add(*values: Integers | tuple[int, ...] | str | int | None) -> None:
        for value in values:
            if value is None or isinstance(value, str):
                found.update(repr(value).encode())
            else:
                array = np.ascontiguousarray(value, "<i8")
                found.update(repr(array.shape).encode() + array.tobytes())

    for layer in whole.layers:
        add(layer.name, layer.kind, layer.shape, layer.bias, layer.threshold, layer.initial, layer.reset)
        add(layer.start)
        add(*layer.currents)
        for term in layer.terms:
            add(term.name, term.source, term.kind, term.shape, term.weight, term.index)
            add(term.stride, term.padding, term.dilation, term.groups)
    return found.hexdigest()
