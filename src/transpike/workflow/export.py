"""Write a converted network in the format of another tool, and prove what was written spike for spike."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike import exporters
from transpike.core.cell import Cell
from transpike.core.inputs import InputNames
from transpike.core.precision import without_autocast
from transpike.core.registry import family
from transpike.data.batches import inputs
from transpike.engines.reference import Reference
from transpike.errors import DataError, GateFailed, SettingError, UnsupportedModel
from transpike.exporters.exporter import Exporter
from transpike.lowering.program import Program
from transpike.lowering.whole import Integers, Layer, Samples, Trains, Whole
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import run_whole
from transpike.readouts.delayed_window import DelayedWindow
from transpike.results.writing import (
    check_new_folder,
    check_writable,
    scratch_folder,
    write_atomically,
    write_folder,
)
from transpike.snn import SNN, takes_snn
from transpike.tasks.fidelity import Fidelity
from transpike.workflow.hybrid import analogue_layers, spiking_program

SCHEMA = 1
MARK = "transpike-export.json"
"""In every exported folder: what was exported, and whether it was verified."""
LEAST, MOST = 0.01, 0.6
"""Spikes per neuron and step between which equal spikes mean something; of first spikes at least, per neuron."""
LIMIT = 64
"""The most samples that are run, unless asked for more: every spike of every layer and step is kept."""


@dataclass(frozen=True)
class ExportedLayer:
    """One spiking layer: ``spikes`` of all samples, ``rate`` per neuron and step (of first spikes per neuron)."""

    name: str
    neurons: int
    spikes: int
    rate: float


@dataclass(frozen=True)
class Export:
    """The result of an export, and how it was verified.

    ``verified``: the written network was run from its files, and every spike of every layer and step and all totals
    were equal to those of the reference engine; else ``missing`` says what was not installed, and nothing was
    compared. ``warnings``: what weakens the statement. ``about``: what the format says, such as the memory needed.
    ``ties``: how often a potential of the samples was exactly at a threshold. If never, the comparison cannot tell a
    network that fires at its threshold from one that fires above it.
    ``analogue``: the layers of a hybrid network that are not in the files, which hold its spiking part only.
    ``first_spikes``: a step is a time slot, of which each layer has ``timesteps``.
    """

    path: Path
    format: str
    verified: bool
    missing: str
    timesteps: int
    samples: int
    layers: tuple[ExportedLayer, ...]
    warnings: tuple[str, ...] = ()
    about: str = ""
    ties: int = 0
    analogue: tuple[str, ...] = ()
    first_spikes: bool = False

    @property
    def spikes(self) -> int:
        """The number of spikes that were compared, or would have been."""
        return sum(layer.spikes for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        found = asdict(self) | {"path": str(self.path), "layers": [asdict(layer) for layer in self.layers]}
        return {
            "schema": SCHEMA, **found, "warnings": list(self.warnings), "analogue": list(self.analogue),
            "spikes": self.spikes,
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())

    def __str__(self) -> str:
        what, per = f"{self.samples} samples, T={self.timesteps}", "neurons" if self.first_spikes else "steps"
        lines = [
            f"{layer.name:30} {layer.neurons:8,} neurons {layer.spikes:12,} spikes  {layer.rate:6.1%} of all {per}"
            for layer in self.layers
        ]
        if self.verified:
            lines.append(
                f"{self.path}: {self.format}, run back and equal: {self.spikes:,} spikes of {len(self.layers)} layers "
                f"and all totals ({what})"
            )
        else:
            lines.append(f"{self.path}: {self.format}, not verified: {self.missing}")
        lines += [self.about] if self.about else []
        if not self.ties:
            lines.append(
                "note: no potential was ever exactly at a threshold on these samples, so > and ≥ could not be "
                "distinguished"
            )
        if self.analogue:
            lines.append(f"only the spiking part was written; analogue layers left out: {', '.join(self.analogue)}")
        return "\n".join([*lines, *(f"warning: {one}" for one in self.warnings)])


@takes_snn
@without_autocast
def export(
    snn: SNN,
    path: str | Path,
    format: str | None = None,
    *,
    samples: Any,
    timesteps: int | None = None,
    limit: int = LIMIT,
    **settings: Any,
) -> Export:
    """Write ``snn`` to ``path``, run what was written, and compare every spike with the reference engine.

    ``format``: "golden", "onnx", "c", "nir" or the name of a registered exporter; None takes it from the extension of
    ``path``. ``samples``: inputs in any form that ``evaluate`` takes, of which the first ``limit`` are run for
    ``timesteps`` steps (the recipe's); golden vectors and tests in the output are made of them. ``settings`` are those
    of the format. For a hybrid network, the spiking part is written (docs/hybrid.md). The files appear at ``path`` only
    when they are complete and have not been found wrong.

    Raises UnsupportedModel for a network, or a part of it, that integers or the format cannot hold; GateFailed
    where a spike or a total differs; SettingError, DataError, and FileError where the output cannot be written. Where
    the program that runs the format is not installed, the files are written and ``Export.missing`` says so.
    """
    exporter = exporter_named(format, path, settings)
    check_output(exporter, path)
    steps = snn.schedule.check(snn.timesteps if timesteps is None else timesteps)
    whole = whole_form(spiking_program(snn), steps, None if snn.preprocessing is None else snn.preprocessing.whole)
    refuse(exporter, whole)
    given, expected = trains_of(snn, whole, samples, whole.timesteps, limit)
    own = run_whole(whole, given)
    _compare("the integer form", whole, expected, own)
    warnings, written = _weak(whole, expected), exporter.written(whole)
    if written is not whole:
        other = run_whole(written, given)
        warnings.append(_change(whole, expected, written, other))
        whole, expected, own = written, other, other
    layers = tuple(
        ExportedLayer(name, train[0, 0].size, _spikes(whole, train), _rate(whole, train))
        for name, train in expected.levels.items()
    )
    with scratch_folder() as folder:
        inside = folder / (Path(path).name or "net")
        exporter.write(whole, inside, given, expected)
        missing = exporter.missing()
        if not missing:
            _compare(exporter.name, whole, expected, exporter.run(inside, given))
        result = Export(
            Path(path), exporter.name, not missing, missing, steps, len(expected.totals), layers, tuple(warnings),
            exporter.about(inside), own.ties, analogue_layers(snn), whole.first_spikes,
        )  # fmt: skip
        _place(inside, Path(path), result)
    return result


def exporter_named(format: str | None, path: str | Path, settings: dict[str, Any]) -> Exporter:
    """The exporter of this name, or for the extension of ``path``. Raises SettingError with the known formats."""
    if format is not None:
        return family("exporter").get(format)(**settings)
    suffix = Path(path).suffix
    fitting = [one for one in exporters.table.values() if suffix and one.suffix == suffix]
    if not fitting:
        endings = ", ".join(f"{one.suffix or 'a folder'} ({name})" for name, one in exporters.table.items())
        raise SettingError(f"the extension of {path} belongs to no format: pass format=…, one of {endings}")
    return fitting[0](**settings)


def refuse(exporter: Exporter, whole: Whole) -> None:
    """Raises UnsupportedModel for what the format cannot hold."""
    if whole.first_spikes and not exporter.first_spikes:
        able = " or ".join(name for name, one in exporters.table.items() if one.first_spikes)
        raise UnsupportedModel(
            f"{exporter.name} does not support first-spike networks, in which a step is a time slot: export to {able}, "
            "or convert with a recipe that can spike in every step, such as ecc or few-steps"
        )
    if whole.readout.start and not exporter.reads_late:
        raise UnsupportedModel(
            f"{exporter.name} reads all steps, but the readout of this network excludes the first "
            f"{whole.readout.start}: convert with readout=AccumulatedMembrane()"
        )
    if not exporter.every_rule and not whole.is_plain:
        name = next(layer.name for layer in whole.layers if not layer.rule.is_plain or layer.timing is not None)
        raise UnsupportedModel(
            f"{name} sends levels other than 0 and 1, or waits, which {exporter.name} does not support: convert with a "
            "streaming recipe of integrate-and-fire neurons, such as ecc, or export to golden, onnx or c"
        )
    exporter.refuse(whole)


def check_output(exporter: Exporter, path: str | Path) -> None:
    """Raise FileError where the output cannot be written, to be called before the work."""
    if exporter.suffix:
        check_writable(path, read_again=True)
    else:
        check_new_folder(path, MARK)


def _place(inside: Path, path: Path, result: Export) -> None:
    """Move what was written to its place."""
    if inside.is_dir():
        result.save(inside / MARK)
        write_folder(path, inside, MARK)
    else:
        write_atomically(path, inside.read_bytes())


def trains_of(snn: SNN, whole: Whole, samples: Any, timesteps: int, limit: int = LIMIT) -> tuple[Samples, Trains]:
    """The inputs of the first ``limit`` samples, and the reference engine's trains and totals for them."""
    x = _prepared(snn, samples, limit)
    snn.checked(x)
    x = snn.entering(x)
    program, ids = spiking_program(snn), torch.arange(len(x))
    expected = reference_trains(program, whole, x, ids, timesteps)
    return samples_of(program, whole, x, ids, timesteps), expected


def _prepared(snn: SNN, samples: Any, limit: int) -> Tensor:
    names = InputNames.of(snn.source.inputs)
    parts: list[Tensor] = []
    for batch in inputs(samples, names or snn.sample_shape):
        parts.append(snn.prepare(batch)[: limit - sum(map(len, parts))])
        if sum(map(len, parts)) >= limit:
            break
    if not parts:
        raise DataError("there are no samples to run: pass samples=…, inputs like those of the calibration")
    return torch.cat(parts).cpu()


def reference_trains(program: Program, whole: Whole, x: Tensor, ids: Tensor, timesteps: int) -> Trains:
    """The levels of every layer and step, and the totals of the readout, from the reference engine, as integers."""
    names = [node.name for node in program.lowered.nodes if isinstance(node.op, Cell)]
    trains: dict[str, list[np.ndarray]] = {name: [] for name in names}
    neurons = [layer for layer in whole.layers if layer.integrates]
    ends: dict[str, list[Integers]] = {layer.name: [] for layer in neurons}
    totals = []
    with torch.no_grad():
        for start in range(0, len(x), 64):
            part = slice(start, start + 64)
            run = Reference(every_step=True).start(program, x[part], ids[part], names, count=False)
            run.advance(whole.window or timesteps)
            for layer in neurons:
                state = run.states[layer.name]
                ends[layer.name].append(in_units(state[0] if isinstance(state, tuple) else state, layer))
            trace = run.finish()
            if not trace.exact:
                raise UnsupportedModel(f"the run is not exact, so spikes may depend on the engine: {trace.why}")
            for name in names:
                trains[name].append(trace.trains[name].numpy().astype(np.int64))
            assert run.reading is not None
            reading = run.reading[:, 1] if isinstance(program.readout, DelayedWindow) else run.reading
            if program.schedule.mode == "differences":  # read as the sum of equivalent rates
                reading = reading / timesteps
            if whole.first_spikes:  # read as the sum of a window, times its slots
                reading = reading / whole.window
            totals.append(in_units(reading, whole.readout))
    levels = {name: np.concatenate(parts, 1) for name, parts in trains.items()}
    return Trains(levels, np.concatenate(totals), {name: np.concatenate(parts) for name, parts in ends.items()})


def in_units(values: Tensor, layer: Layer) -> Integers:
    """Charges or potentials of a layer, (batch, *shape), as the integers that they are in its unit."""
    unit = (
        layer.unit if layer.kind == "readout" else layer.unit.reshape(-1, *(1,) * (len(layer.shape) - layer.axis - 1))
    )
    return np.rint(values.numpy() / unit).astype(np.int64)


def _compare(what: str, whole: Whole, expected: Trains, found: Trains) -> None:
    """Raises GateFailed with the first value that differs: of the earliest step, there of the first layer."""
    wrong = {name: _differing(train, found.levels.get(name)) for name, train in expected.levels.items()}
    first: tuple[int, str] | None = None
    for layer in whole.layers[:-1]:
        rows = wrong[layer.name]
        if rows is None:
            raise GateFailed(f"{what} returns no spikes of {layer.name} that can be compared with transpike's")
        if rows.any() and (first is None or int(np.flatnonzero(rows)[0]) < first[0]):
            first = (int(np.flatnonzero(rows)[0]), layer.name)
    count, size = sum(int(rows.sum()) for rows in wrong.values() if rows is not None), _size(expected)
    if first is not None:
        step, name = first
        train, other = expected.levels[name][step], found.levels[name][step]
        place = tuple(int(k) for k in np.argwhere(train != other)[0])
        raise GateFailed(
            f"{what} differs from transpike in {count:,} of {size:,} values: first in layer {name}, step {step + 1}, "
            f"neuron {place[1:]}, sample {place[0]}: {other[place]} instead of {train[place]}"
        )
    for name, end in found.potentials.items():
        _compare_ends(f"{what}: the potentials of {name} after the last step", expected.potentials[name], end)
    _compare_ends(f"{what}: the totals of the output", expected.totals, found.totals)


def _compare_ends(what: str, expected: Integers, found: Integers) -> None:
    """Raises GateFailed where values after the last step, (batch, *shape), differ: all spikes before are equal."""
    if found.shape != expected.shape:
        raise GateFailed(f"{what} have the shape {found.shape}, not {expected.shape}")
    wrong = np.argwhere(found != expected)
    if len(wrong):
        place = tuple(int(k) for k in wrong[0])
        raise GateFailed(
            f"{what} differ in {len(wrong):,} of {expected.size:,}, although all spikes are equal: first neuron "
            f"{place[1:]}, sample {place[0]}: {found[place]} instead of {expected[place]}"
        )


def _differing(expected: np.ndarray, found: np.ndarray | None) -> np.ndarray | None:
    """The number of different values of each step; None if there are none to compare."""
    if found is None or found.shape != expected.shape:
        return None
    return (found != expected).reshape(len(expected), -1).sum(1)


def _size(trains: Trains) -> int:
    return sum(train.size for train in trains.levels.values())


def _change(whole: Whole, expected: Trains, written: Whole, other: Trains) -> str:
    """How far the outputs of the written network are from those of transpike."""
    logits = [
        torch.from_numpy(trains.totals * one.readout.unit) for one, trains in ((written, other), (whole, expected))
    ]
    task = Fidelity()
    values = task.values(task.statistics(*logits).sum(0)).tolist()
    words = [f"{metric.name} {value:.3f}" for metric, value in zip(task.metrics, values, strict=True)]
    spikes = sum(int((other.levels[name] != train).sum()) for name, train in expected.levels.items())
    return (
        f"the format's settings changed the network: {spikes:,} of {_size(expected):,} values of "
        f"spikes changed; outputs against transpike's: {', '.join(words)}"
    )


def _spikes(whole: Whole, train: Integers) -> int:
    """The number of spikes of a layer; a level above 1 counts as several spikes, except that of a first spike."""
    return int(((train != 0) if whole.first_spikes else abs(train)).sum())


def _rate(whole: Whole, train: Integers) -> float:
    """The share of neurons and steps, of a train (T, batch, *shape), with a spike; of first spikes that of neurons."""
    return float((train != 0).mean()) * (len(train) if whole.first_spikes else 1)


def _weak(whole: Whole, expected: Trains) -> list[str]:
    """Why equal spikes say less than they seem to."""
    rates = {name: _rate(whole, train) for name, train in expected.levels.items()}
    places = sum(train[0].size for train in expected.levels.values()) if whole.first_spikes else _size(expected)
    total = sum(int((train != 0).sum()) for train in expected.levels.values()) / max(1, places)
    if whole.first_spikes:
        where, most, range_ = "neurons", 1.0, "at least 1 %"
        same = [name for name, train in expected.levels.items() if len(np.unique(np.nonzero(train)[0])) < 2]
        fires = "never or all in one slot"
    else:
        where, most, range_ = "neurons and steps", MOST, "1 to 60 %"
        same, fires = [name for name, rate in rates.items() if rate in (0.0, 1.0)], "never or always"
    found = []
    if not LEAST <= total <= most:
        found.append(f"{total:.2%} of {where} spike, not {range_}, so equal spikes are weak evidence")
    if same:
        found.append(f"{', '.join(same)} fire {fires} on these samples, so their equality proves nothing")
    return found
