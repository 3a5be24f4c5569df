"""Running the written C network: what goes into ``trace.c``, and what comes out."""

import json
import os
import shlex
import shutil
import subprocess
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transpike.errors import FileError
from transpike.exporters.c.layout import Array
from transpike.lowering.whole import Integers, Samples, Trains
from transpike.results.writing import scratch_folder

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror")


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


def run_files(path: Path, samples: Samples) -> Trains:
    """Compile ``trace.c`` of the folder ``path`` and run samples. Raises FileError."""
    about = read_manifest(path)
    with scratch_folder() as folder:
        program = build(path, folder / "trace", "trace.c", "-O1", "-DNET_WATCH")
        done = subprocess.run([program], input=_entering(about, samples), capture_output=True, check=False)
    if done.returncode:
        raise FileError(f"{path / 'trace.c'} ended with code {done.returncode}: {last_line(done.stderr)}")
    return _Output(np.frombuffer(done.stdout, np.uint32)).trains(about, samples)


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


def _values(one: dict[str, Any], samples: Samples) -> Integers:
    """Those of a parameter, (batch, *shape); of spikes (T, batch, *shape)."""
    return (samples.raw if one["kind"] == "input" else samples.entering)[one["name"]]


def _batch(about: dict[str, Any], samples: Samples) -> int:
    first = about["parameters"][0]
    return _values(first, samples).shape[first["kind"] == "spikes"]


def _entering(about: dict[str, Any], samples: Samples) -> bytes:
    """The input of ``trace.c``."""
    batch, constant, spikes = _batch(about, samples), [], []
    for one in about["parameters"]:
        values = _values(one, samples)
        if values.min(initial=one["low"]) < one["low"] or values.max(initial=one["high"]) > one["high"]:
            raise FileError(f"the samples of {one['name']} are not within {one['low']} … {one['high']}")
        stored = _stored(one).stored(values).astype(np.int64)
        stored = stored if one["type"] == "int64_t" else stored.astype(np.uint32)
        if one["kind"] == "spikes":
            spikes.append(stored.swapaxes(0, 1))
        else:
            constant.append(stored)
    parts: list[NDArray[Any]] = [np.array([batch, samples.timesteps], np.uint32)]
    for n in range(batch):
        parts += [one[n] for one in constant]
        parts += [one[n, t] for t in range(samples.timesteps) for one in spikes]
    return b"".join(part.tobytes() for part in parts)


class _Output:
    """Takes what ``trace.c`` wrote, part by part."""

    def __init__(self, words: NDArray[np.uint32]) -> None:
        self.words, self.place = words, 0

    def trains(self, about: dict[str, Any], samples: Samples) -> Trains:
        *layers, readout = about["layers"]
        batch, steps = _batch(about, samples), samples.timesteps
        events = {one["name"]: np.zeros((steps, batch, prod(one["shape"])), np.int64) for one in layers}
        kept = [readout, *(one for one in layers if one["kind"] in ("integrate", "first-spike"))]
        values = {one["name"]: np.zeros((batch, prod(one["shape"])), np.int64) for one in kept}
        for n in range(batch):
            for t in range(steps):
                for one in layers:
                    positions, sent = self._events(bool(about.get("levels")))
                    np.add.at(events[one["name"]][t, n], positions, one["sent"][t] if "sent" in one else sent)
            for end in values.values():
                end[n] = self._wide(end.shape[1])
        found = {one["name"]: _stored(one).read(events[one["name"]]) for one in layers}
        totals, *potentials = (_stored(one).read(values[one["name"]]) for one in kept)
        return Trains(found, totals, dict(zip([one["name"] for one in kept[1:]], potentials, strict=True)))

    def _events(self, graded: bool) -> tuple[Integers, Integers]:
        """The positions of events, and their levels: 1 if the network has no others."""
        count, width = int(self.words[self.place]), 1 + graded
        found = self.words[self.place + 1 : self.place + 1 + count * width].reshape(count, width)
        self.place += 1 + count * width
        levels = found[:, 1].copy().view(np.int32) if graded else np.ones(count, np.int64)
        return found[:, 0].astype(np.int64), levels.astype(np.int64)

    def _wide(self, count: int) -> Integers:
        self.place += 2 * count
        return self.words[self.place - 2 * count : self.place].view(np.int64)
