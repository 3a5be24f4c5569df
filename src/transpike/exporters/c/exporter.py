"""The C network: writing its files, and running them with the system's compiler."""

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from transpike.errors import FileError, UnsupportedModel
from transpike.exporters.c.costs import costs
from transpike.exporters.c.layout import Array
from transpike.exporters.c.network import Network
from transpike.exporters.c.plan import Plan
from transpike.exporters.c.programs import test_program, trace_program
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Entrance, Samples, Trains, Whole
from transpike.lowering.whole_terms import charge_shape
from transpike.results.writing import scratch_folder, write_atomically

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror")
OTHERS = "Export to golden or onnx instead, or change the network"


@dataclass(frozen=True)
class C(Exporter):
    """C99 with integers only: ``net.h`` and ``net.c``, without allocation or dependency.

    Each step visits only what has fired: an event adds a row of weights to the potentials that it reaches. Types are
    the narrowest that the proven bounds allow. ``test.c`` compares the samples, ``trace.c`` writes every event of
    others, ``net.json`` names inputs and layers, and says what the network costs.
    """

    name: ClassVar[str] = "c"
    suffix: ClassVar[str] = ""

    def refuse(self, whole: Whole) -> None:
        for entrance in whole.entrances:
            if not -(2**31) <= entrance.low <= entrance.high < 2**31:
                raise UnsupportedModel(
                    f"the entrance {entrance.name} takes integers from {entrance.low} to {entrance.high}, and the C "
                    "network takes 32 bits: convert with input_bits=8"
                )
        for layer in whole.layers:
            shapes = {charge_shape(term) for term in layer.terms if term.kind == "conv"}
            if len(shapes) > 1 or (shapes and any(t.kind == "linear" and len(t.shape) > 1 for t in layer.terms)):
                raise UnsupportedModel(
                    f"{layer.name} adds the outputs of layers of weights that lie in different orders in the C "
                    f"network. {OTHERS}"
                )
            if layer.pool is None:
                continue
            source = whole.table[layer.source]
            if isinstance(source, Entrance) and (source.kind != "spikes" or source.low < 0 or source.high > 1):
                raise UnsupportedModel(
                    f"{layer.name} pools the entrance {source.name}, whose levels are not only 0 and 1. {OTHERS}"
                )
            if len(source.shape) != len(layer.pool.kernel) + 1:
                raise UnsupportedModel(
                    f"{layer.name} pools {len(layer.pool.kernel)} of {len(source.shape)} axes, and the C network pools "
                    f"all but the first. {OTHERS}"
                )

    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        self.refuse(whole)
        plan = Plan(whole)
        network = Network(plan)
        texts = {
            "net.c": network.source,
            "net.h": network.header,
            "test.c": test_program(plan, samples, expected),
            "trace.c": trace_program(plan),
            "net.json": json.dumps(manifest(plan, costs(plan, network.constants.bytes, samples, expected)), indent=1),
        }
        for name, text in texts.items():
            write_atomically(path / name, text.encode(), make_folder=True)

    def missing(self) -> str:
        return "" if compiler() else "a C compiler (gcc or clang; on Debian: apt-get install gcc libc6-dev)"

    def run(self, path: Path, samples: Samples) -> Trains:
        """Raises FileError if the files do not compile, or the program fails."""
        about = read_manifest(path)
        with scratch_folder() as folder:
            program = build(path, folder / "trace", "trace.c", "-O1", "-DNET_WATCH")
            done = subprocess.run([program], input=_entering(about, samples), capture_output=True, check=False)
        if done.returncode:
            raise FileError(f"{path / 'trace.c'} ended with code {done.returncode}: {last_line(done.stderr)}")
        return _trains(about, np.frombuffer(done.stdout, np.uint32), samples)


def compiler() -> list[str]:
    """The command of the system's C compiler: that of the variable CC, else cc, gcc or clang; [] if there is none."""
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return []


def build(path: Path, program: Path, main: str, *flags: str) -> Path:
    """Compile ``net.c`` and ``main`` of the folder ``path``; all warnings are errors. Raises FileError."""
    sources = [str(path / "net.c"), str(path / main)]
    command = [*compiler(), *STRICT, *flags, *sources, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise FileError(f"{path} does not compile ({shlex.join(command)}): {last_line(done.stderr)}")
    return program


def last_line(output: bytes) -> str:
    """The first line that names an error, or the last one."""
    lines = output.decode(errors="replace").strip().splitlines() or ["no output"]
    return next((line for line in lines if "error" in line), lines[-1])


def _array(array: Array) -> dict[str, Any]:
    return {"shape": list(array.shape), "view": list(array.view), "features_last": array.features_last}


def manifest(plan: Plan, found: Any) -> dict[str, Any]:
    """The content of ``net.json``."""
    whole = plan.whole
    return {
        "format": "c",
        "timesteps": whole.timesteps,
        "entrances": [
            {
                "name": one.name,
                "kind": one.kind,
                "argument": plan.argument(one),
                "type": plan.level_type(one),
                "low": one.low,
                "high": one.high,
                **_array(plan.arrays[one.name]),
            }
            for one in whole.entrances
        ],
        "layers": [
            {"name": one.name, "kind": one.kind, **_array(plan.arrays[one.name])}
            for one in whole.layers
        ],
        "costs": found.to_json(),
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """``net.json``. Raises FileError if it is missing or damaged."""
    try:
        found = json.loads((path / "net.json").read_text(encoding="utf-8"))
        if found["format"] != "c":
            raise ValueError("it is of another format")
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path / 'net.json'} cannot be read: {error}. Export the network again") from error
    return found


def _stored(about: dict[str, Any]) -> Array:
    return Array("", tuple(about["shape"]), tuple(about["view"]), about["features_last"])


def _entering(about: dict[str, Any], samples: Samples) -> bytes:
    """The input of ``trace.c``."""
    batch = 0
    constant, spikes = [], []
    for one in about["entrances"]:
        values = samples.entering[one["name"]]
        stored = _stored(one).stored(values)
        if values.min(initial=one["low"]) < one["low"] or values.max(initial=one["high"]) > one["high"]:
            raise FileError(f"the samples of {one['name']} are not within {one['low']} … {one['high']}")
        if one["kind"] == "spikes":
            spikes.append(stored.swapaxes(0, 1))
        else:
            constant.append(stored)
        batch = values.shape[one["kind"] == "spikes"]
    parts = [np.array([batch, samples.timesteps])]
    for n in range(batch):
        parts += [one[n] for one in constant]
        parts += [one[n, t] for t in range(samples.timesteps) for one in spikes]
    return b"".join(part.astype(np.int64).astype(np.uint32).tobytes() for part in parts)


def _trains(about: dict[str, Any], words: np.ndarray, samples: Samples) -> Trains:
    """What ``trace.c`` wrote."""
    *layers, readout = about["layers"]
    arrays = [_stored(one) for one in layers]
    outputs = _stored(readout)
    first = about["entrances"][0]
    batch = samples.entering[first["name"]].shape[first["kind"] == "spikes"]
    found = [np.zeros((samples.timesteps, batch, array.size), np.int64) for array in arrays]
    totals = np.zeros((batch, outputs.size), np.int64)
    place = 0
    for n in range(batch):
        for t in range(samples.timesteps):
            for levels in found:
                count = int(words[place])
                np.add.at(levels[t, n], words[place + 1 : place + 1 + count].astype(np.int64), 1)
                place += 1 + count
        totals[n] = words[place : place + 2 * outputs.size].view(np.int64)
        place += 2 * outputs.size
    levels = {one["name"]: array.read(train) for one, array, train in zip(layers, arrays, found, strict=True)}
    return Trains(levels, outputs.read(totals))
