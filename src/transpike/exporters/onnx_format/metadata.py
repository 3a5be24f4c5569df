"""The metadata of a file about its network, and where its tensors are."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transpike.core.version import __version__
from transpike.errors import FileError
from transpike.exporters.onnx_format.step import Step, sum_of
from transpike.lowering.whole import Whole

FORMAT = "1"
PREFIX = "transpike."


def metadata(step: Step, kind: str, after: Mapping[str, str]) -> dict[str, str]:
    """Key → text. ``tensors`` names, for each entrance and layer, its tensors and the real value of 1 in them.

    ``after``: layer → the output with its state after the run.
    """
    whole = step.whole
    tables: dict[str, Any] = {"entrances": {}, "layers": {}}
    for one in whole.entrances:
        name, enters, ends = one.name, str(one.kind), (one.low, one.high)
        if one.front is not None:
            name, enters, ends = one.front.name, "whole", (one.front.low, one.front.high)
        about = {"tensor": step.entrances[name].name, "kind": enters, "low": ends[0], "high": ends[1]}
        tables["entrances"][name] = about if one.front else about | {"unit": _units(one.unit)}
    for layer in whole.layers:
        found = {"kind": layer.kind, "unit": _units(layer.unit), "state": step.states[layer.name].name}
        found["after"] = after[layer.name]
        if sum_of(layer.name) in step.states:
            found |= {"sum": step.states[sum_of(layer.name)].name, "sum_after": after[sum_of(layer.name)]}
        if layer.name in step.levels:
            found["levels"] = step.levels[layer.name].name
        tables["layers"][layer.name] = found
    texts = {
        "format": FORMAT, "model": kind, "version": __version__, "timesteps": str(whole.timesteps),
        "divisor": str(whole.divisor), "network": digest(whole), "tensors": json.dumps(tables),
    }  # fmt: skip
    return {PREFIX + key: text for key, text in texts.items()}


def _units(unit: NDArray[np.float64]) -> float | list[float]:
    values = unit.reshape(-1).tolist()
    return values[0] if len(set(values)) == 1 else values


def digest(whole: Whole) -> str:
    """SHA-256 of everything that an integer form consists of."""
    found = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, np.ndarray):
            found.update(f"{one.dtype}{one.shape}".encode() + np.ascontiguousarray(one).tobytes())
        elif dataclasses.is_dataclass(one):
            found.update(type(one).__name__.encode())
            for part in dataclasses.fields(one):
                add(getattr(one, part.name))
        elif isinstance(one, tuple):
            found.update(f"({len(one)}".encode())
            for part in one:
                add(part)
        else:
            found.update(f"{one!r};".encode())

    add(whole)
    return found.hexdigest()


@dataclass(frozen=True)
class Described:
    """What the metadata of a file say: ``model`` "step" or "loop", entrance → tensor, and its kind ("whole" for
    what a ``Front`` takes), layer → names of its tensors.
    """

    model: str
    entrances: Mapping[str, str]
    kinds: Mapping[str, str]
    layers: Mapping[str, Mapping[str, Any]]

    @property
    def levels(self) -> dict[str, str]:
        """Spiking layer → the output with its levels."""
        return {name: one["levels"] for name, one in self.layers.items() if "levels" in one}

    @property
    def states(self) -> dict[str, str]:
        """State → the output that holds it after the run."""
        sums = {one["sum"]: one["sum_after"] for one in self.layers.values() if "sum" in one}
        return {one["state"]: one["after"] for one in self.layers.values()} | sums

    @property
    def potentials(self) -> dict[str, str]:
        """Layer of neurons → the output with its potentials after the run."""
        return {name: one["after"] for name, one in self.layers.items() if one["kind"] == "integrate"}


def described(path: object, texts: Mapping[str, str]) -> Described:
    """The metadata of a file. Raises FileError if transpike did not write them."""
    if texts.get(PREFIX + "format") != FORMAT:
        raise FileError(f"{path} was not written by this version of transpike's ONNX export: export the network again")
    tables = json.loads(texts[PREFIX + "tensors"])
    entrances = tables["entrances"]
    return Described(
        texts[PREFIX + "model"],
        {name: one["tensor"] for name, one in entrances.items()},
        {name: one["kind"] for name, one in entrances.items()},
        tables["layers"],
    )
