"""From the whole-number form to the nodes of a NIR graph that importers read in the same way."""

import hashlib
import json
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from transpike.core.version import __version__
from transpike.errors import UnsupportedModel
from transpike.exporters.nir_file.importers import STEP, sources
from transpike.exporters.nir_file.kernels import (
    Kernel,
    NotAConvolution,
    channels_first,
    fitted,
    kernel_of,
    merged,
)
from transpike.lowering.whole import Entrance, Integers, Layer, Whole

SLOW = 2.0**60
"""The membrane's time constant in steps: a potential of up to 53 bits loses nothing in a step."""
RELAY = 1.5
"""The pulse in units of the threshold: its neuron fires once, and what a subtraction leaves is below the threshold."""


@dataclass(frozen=True)
class Form:
    """How a file is written: see ``Nir``. ``dimensions``: axes of space of every population."""

    profile: Literal["soft", "hard"]
    neuron: Literal["CubaLIF", "IF"]
    bits: int
    dimensions: int
    pulse: bool


@dataclass(eq=False)
class Written:
    """Nodes, edges and the tables of the metadata, in the making."""

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    populations: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        """A free name without dots that every importer takes as it is."""
        found = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        if not found[:1].isalpha() or keyword.iskeyword(found) or hasattr(torch.nn.ModuleDict, found):
            found = f"node_{found}"
        while found in self.nodes or found in ("graph", "state"):
            found += "_"
        return found


def form_of(whole: Whole, profile: Literal["soft", "hard"], neuron: Literal["CubaLIF", "IF"], bits: int, one_axis: bool) -> Form:
    """The form of a file for this network; ``one_axis``: the reader knows convolutions over one axis."""
    shapes = [one.shape for one in (*whole.entrances, *whole.layers)]
    dimensions = max(len(shape) for shape in shapes) - 1
    pulse = profile == "soft" or any(layer.initial.any() for layer in whole.layers)
    return Form(profile, neuron, bits, 2 if dimensions == 1 and not one_axis else dimensions, pulse)


def axis_of(one: Entrance | Layer, whole: Whole) -> int:
    """The axis of channels of a source."""
    if isinstance(one, Layer):
        return one.axis
    if one.kind == "charge":
        return next(layer.axis for layer in whole.layers if one.name in layer.currents)
    read = [term for layer in whole.layers for term in layer.terms if term.source == one.name]
    last = all(term.kind == "linear" and len(term.shape) > 1 for term in read)
    return len(one.shape) - 1 if last else 0


def per_channel(values: NDArray[Any], layer: Layer, what: str) -> NDArray[Any]:
    """(channels,) of a value that broadcasts to the layer's shape. Raises UnsupportedModel if a channel has several."""
    full = np.broadcast_to(values.reshape(values.shape or (1,)), layer.shape)
    rows = np.moveaxis(full, layer.axis, 0).reshape(layer.shape[layer.axis], -1)
    if not (rows == rows[:, :1]).all():
        raise UnsupportedModel(
            f"{layer.name}: {what} differs within a channel, and a NIR convolution has one number for each channel; "
            "use one value for each channel, or --to golden, onnx or c"
        )
    return rows[:, 0]


def grid_of(layer: Layer) -> NDArray[np.float64]:
    """(channels,): what 1 is in the file, a power of two that puts the threshold between 1 and 2."""
    if layer.kind == "readout":
        return np.full(layer.shape[layer.axis], float(layer.unit.reshape(-1)[0]))
    threshold = per_channel(layer.threshold, layer, "the threshold")
    return np.exp2(-np.floor(np.log2(threshold.astype(np.float64))))


def threshold_of(layer: Layer, form: Form) -> NDArray[np.float64]:
    """(channels,): on the grid if the potentials are half a step beside it, else half of the finest step below it."""
    grid = grid_of(layer)
    real = per_channel(layer.threshold, layer, "the threshold") * grid
    return real if form.profile == "soft" else real - grid.min() / 2


def kernels_of(layer: Layer, whole: Whole, form: Form) -> Iterator[tuple[str, Kernel, list[str]]]:
    """(source, kernel, names of its terms) for each source of a layer. Raises UnsupportedModel."""
    for source in sources(whole)[layer.name]:
        one = whole.table[source]
        terms = [term for term in layer.terms if term.source == source]
        found = []
        if source in layer.currents:
            count = layer.shape[layer.axis]
            space = channels_first(layer.shape, layer.axis, form.dimensions)[1:]
            same = np.eye(count, dtype=np.int64).reshape(count, count, *(1,) * form.dimensions)
            found.append(Kernel(same, (0,) * len(space), tuple(1 if n > 1 else None for n in space)))
        for term in terms:
            try:
                found.append(kernel_of(term, one.shape, axis_of(one, whole), layer, form.dimensions))
            except NotAConvolution as error:
                raise UnsupportedModel(
                    f"{term.name}, from {source} to {layer.name}, has no form as a NIR convolution: {error}; change it, "
                    "or use --to golden, onnx or c"
                ) from None
        try:
            kernel = merged(found)
        except NotAConvolution as error:
            raise UnsupportedModel(f"{layer.name}: {error}, so they are not one NIR convolution") from None
        yield source, kernel, [term.name for term in terms] or [source]


def graph_of(whole: Whole, form: Form) -> Any:
    """The NIR graph of a network that ``Nir.refuse`` has accepted. Raises UnsupportedModel."""
    import nir

    written = Written()
    names: dict[str, str] = {}
    entrance = whole.entrances[0]
    names[entrance.name] = "input"
    written.nodes["input"] = nir.Input(np.array(_shape(entrance.shape, axis_of(entrance, whole), form, form.pulse)))
    for layer in whole.layers:
        spiking = layer.kind != "readout"
        shape = _shape(layer.shape, layer.axis, form, form.pulse and spiking)
        node = written.name(layer.name) if spiking else "output"
        written.nodes[node] = _population(layer, shape, form) if spiking else nir.Output(np.array(shape))
        names[layer.name] = node
        written.populations.append(_about(layer, node))
        _connect(written, layer, names, shape, whole, form)
    graph = nir.NIRGraph(nodes=written.nodes, edges=written.edges, metadata={})
    graph.metadata = {"transpike": json.dumps(_metadata(whole, written, form))}
    return graph


def _shape(shape: tuple[int, ...], axis: int, form: Form, pulse: bool) -> tuple[int, ...]:
    channels, *space = channels_first(shape, axis, form.dimensions)
    return (channels + pulse, *space)


def _population(layer: Layer, shape: tuple[int, ...], form: Form) -> Any:
    """The neurons of a layer; the last channel is the pulse, if there is one."""
    import nir

    threshold = threshold_of(layer, form)
    if form.pulse:
        threshold = np.append(threshold, threshold[0])
    each = np.broadcast_to(threshold.reshape(-1, *(1,) * (len(shape) - 1)), shape).copy()
    if form.neuron == "IF":
        return nir.IF(r=np.ones(shape), v_threshold=each, v_reset=np.zeros(shape))
    full = {"tau_syn": STEP, "tau_mem": SLOW * STEP, "r": SLOW, "v_leak": 0.0, "v_reset": 0.0, "w_in": 1.0}
    return nir.CubaLIF(v_threshold=each, **{name: np.full(shape, value) for name, value in full.items()})


def _connect(written: Written, layer: Layer, names: dict[str, str], shape: tuple[int, ...], whole: Whole, form: Form) -> None:
    """One node of weights for each source; the first also has the bias and the pulse."""
    target = names[layer.name]
    found = list(kernels_of(layer, whole, form))
    if layer.kind == "readout" and len(found) > 1:  # importers add what enters a node of weights, not an output
        target = written.name(f"{layer.name}_sum")
        size = shape[0]
        same = np.eye(size).reshape(size, size, *(1,) * form.dimensions)
        written.nodes[target] = _weights(same, np.zeros(size), shape, shape, form, layer.name, (0,) * form.dimensions, (1,) * form.dimensions)
        written.edges.append((target, names[layer.name]))
    grid = grid_of(layer)
    bias = per_channel(layer.bias, layer, "the bias") * grid
    waiting = form.pulse and layer.kind != "readout"
    for source, kernel, terms in found:
        one = whole.table[source]
        inputs = _shape(one.shape, axis_of(one, whole), form, form.pulse)
        if form.pulse:
            pulse = waiting and _reaches(kernel, inputs, shape)
            kernel, weight = _with_pulse(kernel, layer, form, pulse)
            waiting = waiting and not pulse
        else:
            weight = kernel.weight * grid.reshape(-1, *(1,) * (kernel.weight.ndim - 1))
        name = written.name(terms[0] if len(terms) == 1 and terms[0] != source else f"{layer.name}_from_{source}")
        whole_bias = np.append(bias, np.zeros(len(weight) - len(bias)))
        written.nodes[name] = _weights(weight, whole_bias, inputs, shape, form, layer.name, kernel.start, kernel.stride)
        written.edges += [(names[source], name), (name, target)]
        written.weights[name] = {"source": source, "layer": layer.name, "terms": terms}
        bias = np.zeros_like(bias)
    if waiting:
        raise UnsupportedModel(
            f"{layer.name}: no source lies under all of its neurons, so the pulse that sets v(0) does not reach them; "
            "use less padding"
        )


def _reaches(kernel: Kernel, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bool:
    """True if the tap at offset 0 is inside the source for every output."""
    sizes = zip(kernel.stride, inputs[1:], outputs[1:], strict=True)
    return all((stride or 1) * (after - 1) < before for stride, before, after in sizes)


def _with_pulse(kernel: Kernel, layer: Layer, form: Form, pulse: bool) -> tuple[Kernel, NDArray[np.float64]]:
    """The kernel with room for the tap at offset 0, and its weights in the file's units, with the pulse channel."""
    grid = grid_of(layer)
    ends = [max(s + n, 1) for s, n in zip(kernel.start, kernel.weight.shape[2:], strict=True)]
    start = tuple(min(s, 0) for s in kernel.start) if pulse else kernel.start
    if pulse:
        amounts = [
            (s - a, e - s - n)
            for s, a, e, n in zip(kernel.start, start, ends, kernel.weight.shape[2:], strict=True)
        ]
        kernel = Kernel(np.pad(kernel.weight, [(0, 0), (0, 0), *amounts]), start, kernel.stride)
    plain = kernel.weight * grid.reshape(-1, *(1,) * (kernel.weight.ndim - 1))
    spiking = layer.kind != "readout"
    weight = np.zeros((plain.shape[0] + spiking, plain.shape[1] + 1, *plain.shape[2:]))
    weight[: len(plain), :-1] = plain
    if pulse:
        at = tuple(-s for s in start)
        initial = per_channel(layer.initial, layer, "the initial potential")
        weight[(slice(len(plain)), -1, *at)] = (initial + (0.5 if form.profile == "soft" else 0.0)) * grid
        weight[(-1, -1, *at)] = RELAY * threshold_of(layer, form)[0]
    return kernel, weight


def _weights(
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    form: Form,
    layer: str,
    start: tuple[int, ...],
    stride: tuple[int | None, ...],
) -> Any:
    """The node of one kernel, with zeros around its taps so that it gives exactly ``outputs``. Raises UnsupportedModel."""
    import nir

    if not form.dimensions:
        return nir.Affine(weight=weight, bias=bias)
    taps = weight.shape[2:]
    for wanted in range(max(taps), max(taps) + 4):  # nir 1.0.8 computes shapes as if kernels were square
        axes = [
            fitted(s, n, step, before, after, wanted)
            for s, n, step, before, after in zip(start, taps, stride, inputs[1:], outputs[1:], strict=True)
        ]
        found = [one for one in axes if one is not None]
        if len(found) == len(axes):
            break
    else:
        raise UnsupportedModel(
            f"{layer}: a kernel of {' x '.join(map(str, taps))} from {inputs[1:]} to {outputs[1:]} positions has no square "
            "form, and nir takes no other: use the same kernel and padding on both axes"
        )
    weight = np.pad(weight, [(0, 0), (0, 0), *((one.before, one.after) for one in found)])
    steps, padding, ones = tuple(one.stride for one in found), tuple(one.padding for one in found), (1,) * len(found)
    if form.dimensions == 1:
        return nir.Conv1d(inputs[1], weight, steps[0], padding[0], 1, 1, bias)
    return nir.Conv2d(inputs[1:], weight, steps, padding, ones, 1, bias)


def _about(layer: Layer, node: str) -> dict[str, Any]:
    """What the file says of a layer apart from its nodes."""
    exponents = np.log2(layer.unit.reshape(-1)).astype(int)
    about = {"name": layer.name, "node": node, "shape": list(layer.shape), "axis": layer.axis % len(layer.shape)}
    if layer.kind == "readout":
        return {**about, "unit_exponent": int(exponents[0])}
    return {
        **about,
        "unit_exponents": exponents.tolist(),
        "grid_exponents": np.log2(grid_of(layer)).astype(int).tolist(),
        "threshold": per_channel(layer.threshold, layer, "the threshold").tolist(),
        "initial": per_channel(layer.initial, layer, "the initial potential").tolist(),
    }


def _metadata(whole: Whole, written: Written, form: Form) -> dict[str, Any]:
    """Everything that nodes cannot say, for ``run`` and for readers; importers ignore it."""
    entrance = whole.entrances[0]
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
            "axis": axis_of(entrance, whole) % len(entrance.shape),
            "low": entrance.low,
            "high": entrance.high,
            "unit": entrance.unit.reshape(-1).tolist() if prod(entrance.unit.shape) > 1 else float(entrance.unit.reshape(-1)[0]),
        },
        "layers": written.populations,
        "weights": written.weights,
    }


def digest(whole: Whole) -> str:
    """SHA-256 of the whole numbers of a network: weights, biases, thresholds, initial potentials, in their order."""
    found = hashlib.sha256()

    def add(*values: Integers | tuple[int, ...] | str | None) -> None:
        for value in values:
            array = np.asarray(value, np.int64) if value is not None and not isinstance(value, str) else None
            found.update(repr(value if array is None else array.shape).encode())
            if array is not None:
                found.update(array.astype("<i8").tobytes())

    for layer in whole.layers:
        add(layer.name, layer.kind, layer.shape, layer.bias, layer.threshold, layer.initial, layer.reset, *layer.currents)
        for term in layer.terms:
            add(term.name, term.source, term.kind, term.weight, term.index, term.stride, term.padding, term.dilation)
    return found.hexdigest()
