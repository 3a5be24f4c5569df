"""Runs a NIR file of transpike from its nodes, as NIR defines them; it shares no code with the writer.

A node of weights is a convolution or a matrix. A neuron is its differential equation in steps of the file's length
(Euler), fires where its potential is above the threshold, and is then reset as the metadata say.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from transpike.errors import FileError, GateFailed, UnsupportedModel, printable
from transpike.lowering.whole import Integers, Samples, Trains


@dataclass(frozen=True, eq=False)
class Read:
    """A graph and the metadata that the exporter wrote into it."""

    graph: Any
    about: dict[str, Any]


def read(path: Path) -> Read:
    """The file. Raises FileError if transpike did not write it."""
    import nir

    try:
        graph = nir.read(path)
        about = json.loads(graph.metadata["transpike"])
    except OSError as error:
        raise FileError(f"{path} cannot be read: {printable(str(error))}") from error
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise FileError(f"{path} is not a NIR file that transpike wrote: {printable(str(error))}") from error
    return Read(graph, about)


def entering(found: Read, samples: Samples) -> Callable[[int], Tensor]:
    """t (from 0) → what the input node takes in that step, in float64: (batch, channels, *space)."""
    about = found.about
    entrance = about["input"]
    values = np.asarray(samples.entering[entrance["name"]])
    axes = tuple(entrance["shape"])
    lead = 2 if entrance["kind"] == "spikes" else 1
    if tuple(values.shape[lead:]) != axes:
        raise FileError(f"the file takes {axes} for {entrance['name']}, not {tuple(values.shape[lead:])}")
    moved = torch.from_numpy(np.moveaxis(values.astype(np.float64), lead + entrance["axis"], lead).copy())
    size = (moved.shape[lead], *_shape(found.graph.nodes["input"].input_type["input"])[1:])
    moved = moved.reshape(*moved.shape[:lead], *size)

    def at(t: int) -> Tensor:
        now = moved[t] if lead == 2 else moved
        if not about["pulse"]:
            return now
        pulse = torch.full_like(now[:, :1], 1.0 if t == 0 else 0.0)
        return torch.cat([now, pulse], 1)

    return at


def levels_of(spikes: Tensor, layer: dict[str, Any], pulse: bool) -> Integers:
    """(T, batch, channels, *space) of a node as (T, batch, *shape) of its layer, without the pulse."""
    shape, axis = layer["charge"], layer["axis"]
    found = (spikes[:, :, :-1] if pulse else spikes).numpy()
    first = [shape[axis], *(n for k, n in enumerate(shape) if k != axis)]
    in_order = np.moveaxis(found.reshape(*found.shape[:2], *first), 2, 2 + axis)
    return in_order.reshape(*found.shape[:2], *layer["shape"]).astype(np.int64)


@dataclass(eq=False)
class Interpreter:
    """Evaluates the nodes of a graph step by step. ``strict``: fire above the threshold, not at it."""

    read: Read
    strict: bool = True
    state: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    peaks: dict[str, Tensor] = field(default_factory=dict)
    """Node → the largest |potential| of each channel so far."""

    def __post_init__(self) -> None:
        graph = self.read.graph
        before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            before[target].append(source)
        self.before = before
        self.order = list(TopologicalSorter(before).static_order())

    def step(self, value: Tensor) -> dict[str, Tensor]:
        """The outputs of all nodes in one step, for the value of the input node."""
        found: dict[str, Tensor] = {}
        for name in self.order:
            inputs = [found[source] for source in self.before[name]]
            node = self.read.graph.nodes[name]
            if type(node).__name__ == "Input":
                found[name] = value
            elif inputs:
                found[name] = self._evaluate(name, node, torch.stack(inputs).sum(0) if len(inputs) > 1 else inputs[0])
            else:
                raise FileError(f"nothing enters {printable(name)}")
        return found

    def _evaluate(self, name: str, node: Any, x: Tensor) -> Tensor:
        kind = type(node).__name__
        if kind == "Output":
            return x
        if kind in ("Conv1d", "Conv2d"):
            convolve = functional.conv1d if kind == "Conv1d" else functional.conv2d
            settings = [_whole(value) for value in (node.stride, node.padding, node.dilation, node.groups)]
            return convolve(x, _tensor(node.weight), _tensor(node.bias), *settings)
        if kind == "Affine":
            return functional.linear(x, _tensor(node.weight), _tensor(node.bias))
        if kind in ("IF", "CubaLIF"):
            return self._fire(name, node, x)
        raise FileError(f"{printable(name)} is a {kind}, which transpike never writes")

    def _fire(self, name: str, node: Any, x: Tensor) -> Tensor:
        current, potential = self.state.get(name, (torch.zeros_like(x), torch.zeros_like(x)))
        step = self.read.about["step_seconds"]
        if type(node).__name__ == "IF":  # v' = R I, with time in steps
            potential = potential + _tensor(node.r) * x
        else:  # tau_syn I' = -I + w S; tau_mem v' = (v_leak - v) + R I
            current = current + step / _tensor(node.tau_syn) * (_tensor(node.w_in) * x - current)
            drive = _tensor(node.v_leak) - potential + _tensor(node.r) * current
            potential = potential + step / _tensor(node.tau_mem) * drive
        self.peaks[name] = torch.maximum(
            self.peaks.get(name, potential.new_zeros(())), potential.abs().amax((0, *range(2, x.ndim)))
        )
        threshold = _tensor(node.v_threshold)
        fired = potential > threshold if self.strict else potential >= threshold
        if self.read.about["reset"] == "subtract":
            potential = torch.where(fired, potential - threshold, potential)
        else:
            potential = torch.where(fired, _tensor(node.v_reset).expand_as(potential), potential)
        self.state[name] = current, potential
        return fired.double()


def run(found: Read, samples: Samples, *, strict: bool = True) -> Trains:
    """Spikes of every layer and step, totals of the readout, and the potentials after the last step.

    Raises GateFailed where a total or a potential is not an integer, and UnsupportedModel where the importer's numbers
    would not hold a potential.
    """
    about = found.about
    value, machine = entering(found, samples), Interpreter(found, strict)
    *layers, readout = about["layers"]
    spikes: dict[str, list[Tensor]] = {layer["name"]: [] for layer in layers}
    charges: list[Tensor] = []
    for t in range(samples.timesteps):
        step = machine.step(value(t))
        for layer in layers:
            spikes[layer["name"]].append(step[layer["node"]])
        charges.append(step[readout["node"]])
    for layer in layers:
        _check_range(layer, machine.peaks[layer["node"]], about)
    trains = {layer["name"]: levels_of(torch.stack(spikes[layer["name"]]), layer, about["pulse"]) for layer in layers}
    total = torch.stack(charges[readout["start"] :] or [torch.zeros_like(charges[0])]).sum(0)
    totals = _counts(total / 2.0 ** readout["unit_exponent"], f"the totals of {readout['name']}")
    return Trains(trains, levels_of(totals[None], readout, False)[0], _potentials(machine, layers, about))


def _potentials(machine: Interpreter, layers: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Integers]:
    """Layer → grid steps after the last step, (batch, *shape); without the half step of the soft profile."""
    found = {}
    for layer in layers:
        potential = machine.state[layer["node"]][1]
        grid = torch.tensor(layer["grid_exponents"], dtype=torch.float64).exp2()
        own = potential[:, : len(grid)] / grid.reshape(-1, *(1,) * (potential.ndim - 2))
        half = 0.5 if about["profile"] == "soft" else 0.0
        counts = _counts(own - half, f"the potentials of {layer['name']}")
        found[layer["name"]] = levels_of(counts[None], layer, False)[0]
    return found


def _counts(values: Tensor, what: str) -> Tensor:
    """Integers; the equation of the membrane is exact to 2⁻⁵³ of its largest value."""
    counts = values.round()
    if bool(((values - counts).abs() > 2.0**-20).any()):
        raise GateFailed(f"{what} are not integers in their unit, so the weights are not those of the network")
    return counts


def _check_range(layer: dict[str, Any], peaks: Tensor, about: dict[str, Any]) -> None:
    """Raises UnsupportedModel where these samples drive a potential beyond the exact sums of the importer."""
    counts = peaks[: len(layer["grid_exponents"])] / torch.tensor(layer["grid_exponents"], dtype=torch.float64).exp2()
    half = 2 if about["profile"] == "soft" else 1
    if float(counts.max()) * half >= 2.0 ** about["significand_bits"]:
        raise UnsupportedModel(
            f"the potentials of {layer['name']} reach {float(counts.max()):.3g} grid steps on these samples, more than "
            f"the {about['significand_bits']} bits of the importer's sums hold exactly: use precision='float64' and "
            "run the importer in float64, or convert for fewer time steps"
        )


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.asarray(value, np.float64))


def _whole(value: Any) -> Any:
    array = np.asarray(value)
    return int(array) if array.ndim == 0 else tuple(int(one) for one in array)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in np.asarray(value).reshape(-1))
