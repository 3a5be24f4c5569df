"""Files run by onnxruntime."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transpike.errors import DataError, FileError, GateFailed
from transpike.exporters.onnx_format.metadata import Described, described
from transpike.lowering.whole import Samples, Trains


def run_both(path: Path, samples: Samples) -> Trains:
    """What a file gives without graph optimisation. Raises GateFailed if that is not the same with it."""
    plain, optimised = (run(path, samples, optimised) for optimised in (False, True))
    if text := _difference(plain, optimised):
        raise GateFailed(f"{path} gives other numbers with graph optimisation than without: {text}; onnxruntime rounds")
    return plain


def run(path: Path, samples: Samples, optimised: bool) -> Trains:
    """What one file gives."""
    session = _session(path, optimised)
    about = described(path, session.get_modelmeta().custom_metadata_map)
    enters = dict(_entering(session, about, samples))
    return (_looped if about.model == "loop" else _stepped)(session, about, enters, samples.timesteps)


def _session(path: Path, optimised: bool) -> Any:
    import onnxruntime

    options, level = onnxruntime.SessionOptions(), onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class
        raise FileError(f"{path} cannot be run by onnxruntime: {error}") from error


def _entering(session: Any, about: Described, samples: Samples) -> Iterator[tuple[str, NDArray]]:
    """Entrance → the integers in the type of the file."""
    types = {one.name: one.type for one in session.get_inputs()}
    for name, tensor in about.entrances.items():
        kind = np.dtype(types[tensor].removeprefix("tensor(").removesuffix(")"))
        given = (samples.raw if about.kinds[name] == "whole" else samples.entering)[name]
        values = given.astype(kind)
        if not np.array_equal(values, given):
            raise DataError(f"{name} has values that {kind} cannot represent; the file takes {types[tensor]}")
        yield name, values


def _looped(session: Any, about: Described, enters: dict[str, NDArray], timesteps: int) -> Trains:
    outputs = [one.name for one in session.get_outputs()]
    given = {about.entrances[name]: values for name, values in enters.items()}
    found = dict(zip(outputs, session.run(None, given | {"timesteps": np.array(timesteps)}), strict=True))
    levels = {name: found[tensor].astype(np.int64) for name, tensor in about.levels.items()}
    return Trains(levels, found["totals"][-1].astype(np.int64), _potentials(about, found))


def _stepped(session: Any, about: Described, enters: dict[str, NDArray], timesteps: int) -> Trains:
    outputs = [one.name for one in session.get_outputs()]
    states: dict[str, NDArray] = {}
    trains: dict[str, list[NDArray]] = {name: [] for name in about.levels}
    for step in range(timesteps):
        given = {about.entrances[name]: v[step] if about.kinds[name] == "spikes" else v for name, v in enters.items()}
        found = dict(zip(outputs, session.run(None, given | {"step": np.array(step)} | states), strict=True))
        states = {state: found[after] for state, after in about.states.items()}
        for name, tensor in about.levels.items():
            trains[name].append(found[tensor].astype(np.int64))
    total = states[list(about.layers.values())[-1]["state"]]
    levels = {name: np.stack(steps) for name, steps in trains.items()}
    return Trains(levels, total.astype(np.int64), _potentials(about, found))


def _potentials(about: Described, found: dict[str, NDArray]) -> dict[str, NDArray]:
    """Layer of neurons → its potentials at the end."""
    return {name: found[tensor].astype(np.int64) for name, tensor in about.potentials.items()}


def _difference(expected: Trains, found: Trains) -> str:
    """Where two runs differ first, or ""."""
    for name, levels in expected.levels.items():
        differ = levels != found.levels[name]
        if differ.any():
            step = int(np.flatnonzero(differ.reshape(len(differ), -1).any(1))[0]) + 1
            return f"{int(differ.sum()):,} of {differ.size:,} levels of {name}, the first in step {step}"
    for name, potentials in expected.potentials.items():
        if not np.array_equal(potentials, found.potentials[name]):
            return f"the potentials of {name} after the last step"
    return "" if np.array_equal(expected.totals, found.totals) else "the totals of the readout"
