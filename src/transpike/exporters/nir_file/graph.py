"""From the integer form to the nodes of a NIR graph that importers read in the same way."""

import keyword
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transpike.errors import UnsupportedModel
from transpike.exporters.nir_file.importers import STEP, sources
from transpike.exporters.nir_file.kernels import Kernel, NotAConvolution, fitted, kernel_of, merged
from transpike.exporters.nir_file.layout import (
    ELSEWHERE,
    Form,
    axis_of,
    channels_first,
    grid_of,
    initial_counts,
    per_channel,
    threshold_of,
)
from transpike.lowering.whole import Entrance, Layer, Whole

SLOW = 2.0**60
"""The membrane's time constant in steps: a potential of up to 53 bits loses nothing in a step."""
RELAY = 1.5
"""The pulse in units of the threshold: its neuron fires once, and what a subtraction leaves is below the threshold."""


def kernels_of(layer: Layer, whole: Whole, form: Form) -> Iterator[tuple[str, Kernel, list[str]]]:
    """(source, kernel, names of its terms) for each source of a layer. Raises UnsupportedModel."""
    for source in sources(layer):
        one = whole.table[source]
        terms = [term for term in layer.terms if term.source == source]
        found = []
        if source in layer.currents:
            count, *space = channels_first(layer.shape, layer.axis, form.dimensions)
            same = np.eye(count, dtype=np.int64).reshape(count, count, *form.ones)
            found.append(Kernel(same, (0,) * len(space), tuple(1 if n > 1 else None for n in space)))
        for term in terms:
            try:
                found.append(kernel_of(term, one.shape, axis_of(one, whole), layer, form.dimensions))
            except NotAConvolution as error:
                raise UnsupportedModel(
                    f"{term.name}, from {source} to {layer.name}, has no form as a NIR convolution: {error}; change "
                    f"it, or {ELSEWHERE}"
                ) from None
        try:
            kernel = merged(found)
        except NotAConvolution as error:
            raise UnsupportedModel(
                f"{layer.name}: {error}, so they are not one NIR convolution; use equal strides, or {ELSEWHERE}"
            ) from None
        yield source, kernel, list(dict.fromkeys(term.name for term in terms)) or [source]


class GraphWriter:
    """Makes nodes and edges, layer by layer.

    ``names``: layer or entrance → its node. ``weights``: node of weights → its source, its layer, its terms.
    """

    def __init__(self, whole: Whole, form: Form) -> None:
        self.whole, self.form = whole, form
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self.weights: dict[str, dict[str, Any]] = {}

    def graph(self) -> Any:
        """The NIR graph. Raises UnsupportedModel."""
        import nir

        entrance = self.whole.entrances[0]
        self.names[entrance.name] = "input"
        self.nodes["input"] = nir.Input(np.array(self._shape(entrance)))
        for layer in self.whole.layers:
            readout = layer.kind == "readout"
            node = self.names[layer.name] = "output" if readout else self._free(layer.name)
            self.nodes[node] = nir.Output(np.array(self._shape(layer))) if readout else self._population(layer)
            self._connect(layer)
        return nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata={})

    def _free(self, wanted: str) -> str:
        """A free name without dots that every importer takes as it is."""
        found = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        if not found[:1].isalpha() or keyword.iskeyword(found) or hasattr(torch.nn.ModuleDict, found):
            found = f"node_{found}"
        while found in self.nodes or found in ("graph", "output", "state"):
            found += "_"
        return found

    def _shape(self, one: Entrance | Layer) -> tuple[int, ...]:
        """The shape of a population in the file; the pulse is its last channel."""
        channels, *space = channels_first(one.shape, axis_of(one, self.whole), self.form.dimensions)
        pulse = self.form.pulse and not (isinstance(one, Layer) and one.kind == "readout")
        return (channels + pulse, *space)

    def _population(self, layer: Layer) -> Any:
        """The neurons of a layer."""
        import nir

        shape = self._shape(layer)
        threshold = threshold_of(layer, self.form)
        if self.form.pulse:
            threshold = np.append(threshold, threshold[0])
        each = np.broadcast_to(threshold.reshape(-1, *self.form.ones), shape).copy()
        if self.form.neuron == "IF":
            return nir.IF(r=np.ones(shape), v_threshold=each, v_reset=np.zeros(shape))
        numbers = {"tau_syn": STEP, "tau_mem": SLOW * STEP, "r": SLOW, "v_leak": 0.0, "v_reset": 0.0, "w_in": 1.0}
        return nir.CubaLIF(v_threshold=each, **{name: np.full(shape, value) for name, value in numbers.items()})

    def _connect(self, layer: Layer) -> None:
        """One node of weights for each source; the first has the bias, and the first that can has the pulse."""
        form, target, shape = self.form, self.names[layer.name], self._shape(layer)
        found = list(kernels_of(layer, self.whole, form))
        if layer.kind == "readout" and len(found) > 1:  # importers add what enters weights, but not what enters outputs
            target = self._free(f"{layer.name}_sum")
            same = np.eye(shape[0]).reshape(shape[0], shape[0], *form.ones)
            self.nodes[target] = _node(same, np.zeros(shape[0]), shape, shape, (0,) * form.dimensions, form.ones, layer)
            self.edges.append((target, self.names[layer.name]))
        bias = np.zeros(shape[0])
        bias[: layer.shape[layer.axis]] = per_channel(layer.bias, layer, "the bias") * grid_of(layer)
        waiting = form.pulse and layer.kind != "readout"
        for source, kernel, terms in found:
            inputs = self._shape(self.whole.table[source])
            pulse = waiting and _reaches(kernel, inputs, shape)
            kernel = _with_tap_at_zero(kernel) if pulse else kernel
            weight = np.zeros((shape[0], inputs[0], *kernel.weight.shape[2:]))
            weight[: kernel.weight.shape[0], : kernel.weight.shape[1]] = kernel.weight * grid_of(layer).reshape(
                -1, 1, *form.ones
            )
            if pulse:
                at: Any = (slice(None), -1, *(-start for start in kernel.start))
                weight[at] = self._pulse(layer)
            name = self._free(terms[0] if terms != [source] and len(terms) == 1 else f"{layer.name}_from_{source}")
            self.nodes[name] = _node(weight, bias, inputs, shape, kernel.start, kernel.stride, layer)
            self.edges += [(self.names[source], name), (name, target)]
            self.weights[name] = {"source": source, "layer": layer.name, "terms": terms}
            bias, waiting = np.zeros_like(bias), waiting and not pulse
        if waiting:
            raise UnsupportedModel(
                f"{layer.name}: no source lies under all of its neurons, so the pulse that sets v(0) does not reach "
                "them; use less padding"
            )

    def _pulse(self, layer: Layer) -> NDArray[np.float64]:
        """The weights of the pulse: v(0), half a grid step where the threshold is on the grid, and its own relay."""
        half = 0.5 if self.form.profile == "soft" else 0.0
        return np.append((initial_counts(layer) + half) * grid_of(layer), RELAY * threshold_of(layer, self.form)[0])


def _reaches(kernel: Kernel, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bool:
    """True if the tap at offset 0 is inside the source for every output."""
    sizes = zip(kernel.stride, inputs[1:], outputs[1:], strict=True)
    return all((stride or 1) * (after - 1) < before for stride, before, after in sizes)


def _with_tap_at_zero(kernel: Kernel) -> Kernel:
    """The same kernel with zeros, so that it has a tap at offset 0 of every axis."""
    amounts = [
        (max(start, 0), max(1 - start - taps, 0))
        for start, taps in zip(kernel.start, kernel.weight.shape[2:], strict=True)
    ]
    start = tuple(min(start, 0) for start in kernel.start)
    return Kernel(np.pad(kernel.weight, [(0, 0), (0, 0), *amounts]), start, kernel.stride)


def _node(
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    start: tuple[int, ...],
    stride: tuple[int | None, ...],
    layer: Layer,
) -> Any:
    """The node of weights, with zeros around its taps so that it gives exactly ``outputs``. Raises UnsupportedModel."""
    import nir

    if weight.ndim == 2:
        return nir.Affine(weight=weight, bias=bias)
    taps = weight.shape[2:]
    for wanted in range(max(taps), max(taps) + 4):  # nir 1.0.8 computes shapes as if kernels were square
        axes = [
            fitted(first, count, step, before, after, wanted)
            for first, count, step, before, after in zip(start, taps, stride, inputs[1:], outputs[1:], strict=True)
        ]
        found = [one for one in axes if one is not None]
        if len(found) == len(axes):
            break
    else:
        raise UnsupportedModel(
            f"{layer.name}: a kernel of {' x '.join(map(str, taps))} from {inputs[1:]} to {outputs[1:]} positions has "
            f"no square form, and NIR takes no other: use the same kernel and padding on both axes, or {ELSEWHERE}"
        )
    weight = np.pad(weight, [(0, 0), (0, 0), *((one.before, one.after) for one in found)])
    steps, padding = tuple(one.stride for one in found), tuple(one.padding for one in found)
    if len(found) == 1:
        return nir.Conv1d(inputs[1], weight, steps[0], padding[0], 1, 1, bias)
    return nir.Conv2d(inputs[1:], weight, steps, padding, (1, 1), 1, bias)
