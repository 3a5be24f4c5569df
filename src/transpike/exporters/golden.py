"""Golden vectors: the integer network with the expected spikes of every layer, for the authors of hardware."""

import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from transpike.errors import GateFailed
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Entrance, Integers, Layer, Samples, Slots, Term, Timing, Trains, Whole, Window
from transpike.results.writing import write_atomically

VERSION = 2


@dataclass(frozen=True)
class Golden(Exporter):
    """A folder with the network and what it must do, and a program that checks it.

    ``net.json`` holds the structure, ``net.npz`` its integers; ``samples.npz`` what enters, the expected spikes of
    every layer and step, the last potentials and the totals; ``mem/*.mem`` the same integers for $readmemh;
    ``check.py`` runs all of it with NumPy alone, with ``rules.py`` where neurons send more than one spike in a step.
    ``mem=False`` leaves out the .mem files, which are large. A first-spike network has slots in place of
    thresholds and resets, and another checker; its .mem files hold the step of each spike, 0 for none, not trains.
    """

    name: ClassVar[str] = "golden"
    suffix: ClassVar[str] = ""
    reads_late: ClassVar[bool] = True
    every_rule: ClassVar[bool] = True
    first_spikes: ClassVar[bool] = True
    mem: bool = True

    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        path.mkdir()
        arrays: dict[str, Integers] = {}
        make = _slot_layer if whole.first_spikes else _layer
        layers = [make(layer, arrays, whole.timesteps) for layer in whole.layers]
        entrances = [_entrance(one, arrays) for one in whole.entrances]
        vectors = _entering(samples)
        vectors |= {f"out.{name}": value for name, value in expected.levels.items()}
        vectors |= {f"v.{name}": value for name, value in expected.potentials.items()} | {"totals": expected.totals}
        _save(path / "net.npz", arrays)
        _save(path / "samples.npz", vectors)
        text = {
            "format": "transpike golden",
            "version": VERSION,
            "timesteps": samples.timesteps,
            "window": whole.window,
            "divisor": whole.divisor or samples.timesteps - whole.readout.start,
            "entrances": entrances,
            "layers": layers,
        }
        if self.mem:
            sent = _as_times(whole, vectors) if whole.first_spikes else vectors
            text["mem"] = list(_memories(path / "mem", {**arrays, **sent}))
        write_atomically(path / "net.json", json.dumps(text, indent=1).encode())
        checker = "golden_slots_check.py" if whole.first_spikes else "golden_check.py"
        shutil.copyfile(str(files("transpike.exporters") / checker), path / "check.py")
        if not all(layer.rule.is_plain for layer in whole.layers):
            shutil.copyfile(str(files("transpike.exporters") / "golden_rules.py"), path / "rules.py")

    def missing(self) -> str:
        return ""

    def run(self, path: Path, samples: Samples) -> Trains:
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
            _save(given, _entering(samples))
            command = [sys.executable, "-I", str(path / "check.py"), str(given), str(found)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not found.exists():
                raise GateFailed(f"{path / 'check.py'} stopped: {done.stderr.strip()[-500:]}")
            with np.load(found) as arrays:
                kinds = {
                    kind: {key[len(kind) :]: arrays[key].astype(np.int64) for key in arrays if key.startswith(kind)}
                    for kind in ("out.", "v.")
                }
                return Trains(kinds["out."], arrays["totals"].astype(np.int64), kinds["v."])


def _as_times(whole: Whole, vectors: dict[str, Integers]) -> dict[str, Integers]:
    """With the step of each spike, from 1, in place of trains: "when.NAME" (batch, *shape), 0 where none comes."""
    trains = {f"in.{one.name}": one.name for one in whole.entrances if one.kind == "spikes"}
    trains |= {f"out.{layer.name}": layer.name for layer in whole.layers}
    found = {}
    for key, value in vectors.items():
        if key in trains:
            found[f"when.{trains[key]}"] = np.tensordot(np.arange(1, len(value) + 1), value != 0, 1)  # fires once
        else:
            found[key] = value
    return found


def _entering(samples: Samples) -> dict[str, Integers]:
    """The inputs of the run, and the integers of raw inputs: the checker computes their currents itself."""
    raw = {f"raw.{name}": value for name, value in samples.raw.items()}
    return raw | {f"in.{name}": value for name, value in samples.entering.items()}


def _entrance(entrance: Entrance, arrays: dict[str, Integers]) -> dict[str, Any]:
    """An entrance as plain data; the weights of an input of integers go into ``arrays``."""
    found: dict[str, Any] = {
        "name": entrance.name, "kind": entrance.kind, "shape": entrance.shape, "low": entrance.low,
        "high": entrance.high,
    }  # fmt: skip
    if entrance.slots is not None:
        found["levels"] = entrance.slots.levels.tolist()
    if entrance.front is not None:
        front = entrance.front
        found["front"] = {
            "name": front.name, "low": front.low, "high": front.high,
            "term": _term(f"{entrance.name}.0", front.term, arrays),
            "shift": _stored(arrays, f"{entrance.name}.shift", front.shift),
        }  # fmt: skip
    return found


def _layer(layer: Layer, arrays: dict[str, Integers], timesteps: int) -> dict[str, Any]:
    """The structure of a layer as plain data; its integers go into ``arrays``."""
    if layer.pool is not None:
        return _pooling(layer, layer.pool)
    found = _sum(layer, arrays) | {"timing": asdict(layer.timing or Timing(*[(0, timesteps)] * 3))}
    if layer.kind == "readout":
        found["start"] = layer.start
    else:
        found["reset"] = layer.reset
        for name in ("threshold", "initial"):
            found[name] = _stored(arrays, f"{layer.name}.{name}", getattr(layer, name))
        found["rule"] = _rule(layer, arrays)
    return found


def _slot_layer(layer: Layer, arrays: dict[str, Integers], timesteps: int) -> dict[str, Any]:
    """The structure of a layer of first spikes as plain data; its integers go into ``arrays``."""
    slots = layer.slots or Slots(0, np.zeros(0, np.int64))
    found: dict[str, Any] = {"before": slots.before, "levels": slots.levels.tolist(), "wait": slots.wait}
    if layer.pool is not None:
        return _pooling(layer, layer.pool) | found
    if layer.kind == "delay":
        return {"name": layer.name, "kind": layer.kind, "shape": layer.shape, "source": layer.source} | found
    found["initial"] = _stored(arrays, f"{layer.name}.initial", layer.initial)
    if layer.slots is not None:
        found["thresholds"] = _stored(arrays, f"{layer.name}.thresholds", slots.thresholds)
    return _sum(layer, arrays) | found


def _pooling(layer: Layer, pool: Window) -> dict[str, Any]:
    found = {"name": layer.name, "kind": layer.kind, "shape": layer.shape, "source": layer.source}
    return found | {"kernel": pool.kernel, "stride": pool.stride, "padding": pool.padding}


def _sum(layer: Layer, arrays: dict[str, Integers]) -> dict[str, Any]:
    """The terms that a layer adds up."""
    terms = [_term(f"{layer.name}.{number}", term, arrays) for number, term in enumerate(layer.terms)]
    return {
        "name": layer.name, "kind": layer.kind, "shape": layer.shape, "axis": layer.axis,
        "unit_log2": np.log2(np.atleast_1d(layer.unit)).astype(int).tolist(), "currents": layer.currents,
        "bound": int(layer.bound.max()), "bias": _stored(arrays, f"{layer.name}.bias", layer.bias), "terms": terms,
    }  # fmt: skip


def _rule(layer: Layer, arrays: dict[str, Integers]) -> dict[str, Any]:
    """The firing rule of neurons as plain data; its integers go into ``arrays``."""
    rule = layer.rule
    found: dict[str, Any] = {"kind": rule.kind, "most": rule.most}
    numbers = {} if rule.follow is None else vars(rule.follow)
    if rule.takes_back:
        numbers = {"below": rule.below}
    return found | {name: _stored(arrays, f"{layer.name}.{name}", value) for name, value in numbers.items()}


def _term(key: str, term: Term, arrays: dict[str, Integers]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": term.name, "source": term.source, "kind": term.kind, "shape": term.shape,
        "weight": _stored(arrays, f"{key}.weight", term.weight),
        "index": None if term.index is None else _stored(arrays, f"{key}.index", term.index),
    }  # fmt: skip
    if term.kind == "conv":
        found |= {"stride": term.stride, "padding": term.padding, "dilation": term.dilation, "groups": term.groups}
    return found


def _stored(arrays: dict[str, Integers], key: str, value: Integers) -> str:
    arrays[key] = value
    return key


def _save(path: Path, arrays: dict[str, Integers]) -> None:
    """In the narrowest type of each array."""
    narrow: dict[str, Any] = {key: value.astype(_narrowest(value)) for key, value in arrays.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **narrow)
    write_atomically(path, file.getvalue())


def _narrowest(value: Integers) -> type:
    ends = (int(value.min(initial=0)), int(value.max(initial=0)))
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max:
            return kind
    return np.int64


def _memories(folder: Path, arrays: dict[str, Integers]) -> Iterator[dict[str, Any]]:
    """One file for each array, in hexadecimal two's complement, the last axis fastest; with its width in bits."""
    folder.mkdir()
    for number, (key, value) in enumerate(arrays.items()):
        low, high = int(value.min(initial=0)), int(value.max(initial=0))
        bits = max(high.bit_length() + (low < 0), (-low - 1).bit_length() + 1 if low < 0 else 1, 1)
        digits = (bits + 3) // 4
        name = f"{number:03d}-{re.sub(r'[^A-Za-z0-9_]+', '_', key)}.mem"
        words = (value.ravel() & ((1 << bits) - 1)).tolist()
        lines = [" ".join(f"{word:0{digits}x}" for word in words[k : k + 32]) for k in range(0, len(words), 32)]
        head = f"// {bits} bits, {'signed' if low < 0 else 'unsigned'}, {len(words)} words\n"
        write_atomically(folder / name, (head + "\n".join(lines) + "\n").encode("ascii"))
        yield {"array": key, "file": f"mem/{name}", "bits": bits, "signed": low < 0, "shape": value.shape}
