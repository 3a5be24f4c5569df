"""The exporter of NIR files: settings, refusals, writing, reading back."""

import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from transpike.errors import MissingExtra, UnsupportedModel
from transpike.exporters.exporter import Exporter
from transpike.exporters.nir_file.graph import Form, form_of, graph_of, grid_of, kernels_of, per_channel
from transpike.exporters.nir_file.importers import IMPORTERS, carries
from transpike.exporters.nir_file.interpreter import read, run
from transpike.lowering.whole import Layer, Samples, Trains, Whole
from transpike.results.writing import write_atomically

BITS = {"float32": 24, "float64": 53}
"""Significant bits of the numbers that an importer adds."""


@dataclass(frozen=True)
class Nir(Exporter):
    """A file of the Neuromorphic Intermediate Representation (NIR 1.0.8) for other simulators.

    It has only nodes that importers read in the same way: Input, Conv1d, Conv2d or Affine, CubaLIF or IF, Output. All
    numbers are powers of two times integers. No potential ever equals a threshold, so that importers that fire at it
    and importers that fire above it agree. The input node takes the whole numbers of the entrance, and, where the
    metadata say ``pulse``, one channel more: 1 in the first step, 0 later, which carries v(0) through the network.

    ``profile``: the reset of the network; NIR knows no reset by subtraction, so importers have to be told ("soft").
    ``importer``: refuse what this importer would change without a word, and use nodes that it knows. ``neuron``: the
    node of neurons; IF is for sinabs. ``precision``: that of the importer's sums, which must be exact in it.
    """

    name: ClassVar[str] = "nir"
    suffix: ClassVar[str] = ".nir"
    profile: Literal["soft", "hard"] = "soft"
    importer: Literal["", "spikingjelly", "snntorch", "norse"] = ""
    neuron: Literal["CubaLIF", "IF"] = "CubaLIF"
    precision: Literal["float32", "float64"] = "float32"

    def refuse(self, whole: Whole) -> None:
        """Raises UnsupportedModel, naming layer, reason and way out, for what a NIR file cannot hold."""
        if len(whole.entrances) != 1:
            names = ", ".join(one.name for one in whole.entrances) or "none"
            raise UnsupportedModel(f"a NIR file has one input, the network {len(whole.entrances)} ({names}); export it to golden, onnx or c")
        for layer in whole.layers:
            self._refuse_layer(layer)
        for one in (*whole.entrances, *whole.layers):
            if len(one.shape) > 3:
                raise UnsupportedModel(
                    f"{one.name} has the shape {one.shape}, and NIR knows convolutions over one or two axes only; export "
                    "it to golden, onnx or c"
                )
        if self.importer and (reason := carries(self.importer, whole)):
            raise UnsupportedModel(reason)
        form = self._form(whole)
        for layer in whole.layers:
            self._refuse_sums(layer, whole, form)

    def _refuse_layer(self, layer: Layer) -> None:
        if layer.kind == "maximum":
            raise UnsupportedModel(
                f"{layer.name} is maximum pooling by lateral inhibition, which no node of NIR can hold: train the network "
                "with average pooling (nn.AvgPool2d instead of nn.MaxPool2d) and convert it again, or export it to golden, "
                "onnx or c"
            )
        if layer.kind == "readout":
            if layer.initial.any():
                raise UnsupportedModel(f"{layer.name} starts with charge, which a NIR output cannot hold; export it to golden, onnx or c")
            return
        wanted = "subtract" if self.profile == "soft" else "zero"
        if layer.reset != wanted:
            other = "hard" if self.profile == "soft" else "soft"
            raise UnsupportedModel(
                f"{layer.name} has a {other} reset, and profile={self.profile!r} is for networks in which every neuron has a "
                f"{self.profile} one: use profile={other!r}, or convert with reset={self.profile!r}"
            )
        if (layer.threshold <= 0).any():
            raise UnsupportedModel(f"{layer.name} has a threshold of 0 or below, at which it fires in every step: remove these neurons")
        for values, what in ((layer.threshold, "the threshold"), (layer.bias, "the bias"), (layer.initial, "the initial potential")):
            per_channel(values, layer, what)

    def _refuse_sums(self, layer: Layer, whole: Whole, form: Form) -> None:
        """Refuse a layer whose sums need more bits than the importer has."""
        bits = BITS[self.precision]
        charge = np.abs(per_channel(layer.bias, layer, "the bias")).astype(np.float64)
        for source, kernel, _ in kernels_of(layer, whole, form):
            one = whole.table[source]
            largest = max(abs(one.low), abs(one.high)) if not isinstance(one, Layer) else 1
            charge = charge + np.abs(kernel.weight).reshape(len(kernel.weight), -1).sum(1).astype(np.float64) * largest
        needed = float(charge.max())
        if layer.kind != "readout":
            grid = grid_of(layer)
            threshold = per_channel(layer.threshold, layer, "the threshold") * grid
            needed = 2 * max(needed, float(threshold.max() / grid.min()))
        if needed >= 2.0**bits:
            raise UnsupportedModel(
                f"the sums of {layer.name} need {int(np.ceil(np.log2(needed)))} bits, and {self.precision} adds {bits} of "
                "them exactly, so an importer would round them: "
                + (
                    "use precision='float64' and run the importer in float64, or convert for fewer time steps"
                    if bits == 24
                    else "convert for fewer time steps"
                )
            )

    def _form(self, whole: Whole) -> Form:
        one_axis = not self.importer or IMPORTERS[self.importer].one_axis
        return form_of(whole, self.profile, self.neuron, BITS[self.precision], one_axis)

    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        """Write the network; a NIR graph has no place for samples. Raises UnsupportedModel, FileError, MissingExtra."""
        if missing := self.missing():
            raise MissingExtra(f"writing a NIR file needs the package nir: {missing}")
        import nir

        self.refuse(whole)
        file = io.BytesIO()
        nir.write(file, graph_of(whole, self._form(whole)))
        write_atomically(path, file.getvalue())

    def missing(self) -> str:
        """What is not installed that ``run`` needs, with the command that installs it; "" if nothing."""
        return "" if importlib.util.find_spec("nir") else "pip install 'transpike[nir]'"

    def run(self, path: Path, samples: Samples) -> Trains:
        """Run what ``write`` wrote, from its file alone. Raises FileError for a file that is not ours."""
        if missing := self.missing():
            raise MissingExtra(f"reading a NIR file needs the package nir: {missing}")
        return run(read(path), samples)
