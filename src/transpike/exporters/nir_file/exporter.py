"""The exporter of NIR files: settings, refusals, writing, reading back."""

import importlib.util
import io
import json
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from transpike.errors import MissingExtra, SettingError, UnsupportedModel
from transpike.exporters.exporter import Exporter
from transpike.exporters.nir_file.graph import GraphWriter, kernels_of
from transpike.exporters.nir_file.importers import IMPORTERS, carries, sources
from transpike.exporters.nir_file.interpreter import read, run
from transpike.exporters.nir_file.layout import (
    ELSEWHERE,
    Form,
    form_of,
    grid_of,
    in_order_of_charge,
    per_channel,
    threshold_counts,
)
from transpike.exporters.nir_file.metadata import metadata
from transpike.lowering.whole import Entrance, Layer, Samples, Trains, Whole
from transpike.results.writing import write_atomically

BITS = {"float32": 24, "float64": 53}
"""Significant bits of the numbers that an importer adds."""


@dataclass(frozen=True)
class Nir(Exporter):
    """A file of the Neuromorphic Intermediate Representation (nir 1.0.8) for other simulators.

    It has only nodes that importers read in the same way: Input, Conv1d, Conv2d or Affine, CubaLIF or IF, Output. No
    potential ever equals a threshold, so importers that fire at it and importers that fire above it agree. The input
    node takes the integers of the entrance, and, where the metadata say ``pulse``, one channel more, which is 1 in
    the first step and 0 later: it carries v(0) through the network.

    ``profile``: the reset of the network. NIR knows no reset by subtraction: importers have to be told ("soft").
    ``importer``: refuse what this importer would change without a word, and use nodes that it knows. ``neuron``: the
    node of neurons; IF is for sinabs. ``precision``: that of the importer's sums, which are exact in it.
    Source: Pedersen et al. 2024, Nat. Commun. 15:8122 (the nodes and their equations).
    """

    name: ClassVar[str] = "nir"
    suffix: ClassVar[str] = ".nir"
    reads_late: ClassVar[bool] = True  # whoever adds the output's currents begins at the step that the metadata name
    profile: Literal["soft", "hard"] = "soft"
    importer: Literal["", "spikingjelly", "snntorch", "norse"] = ""
    neuron: Literal["CubaLIF", "IF"] = "CubaLIF"
    precision: Literal["float32", "float64"] = "float32"

    def refuse(self, whole: Whole) -> None:
        """Raises UnsupportedModel, naming layer, reason and remedy, for what a NIR file cannot hold.

        Raises SettingError for settings that contradict each other.
        """
        if len(whole.entrances) != 1:
            names = ", ".join(one.name for one in whole.entrances) or "none"
            raise UnsupportedModel(
                f"a NIR file has one input, the network {len(whole.entrances)} ({names}); {ELSEWHERE}"
            )
        for layer in whole.layers:
            self._refuse_layer(layer)
        everything: list[Entrance | Layer] = [*whole.entrances, *whole.layers]
        for one in everything:
            if len(one.shape) > 3:
                raise UnsupportedModel(
                    f"{one.name} has the shape {one.shape}, and NIR convolutions have one or two axes; {ELSEWHERE}"
                )
        if self.importer and (reason := carries(self.importer, whole)):
            raise UnsupportedModel(reason)
        if self.importer and self.precision == "float64" and not IMPORTERS[self.importer].float64:
            raise SettingError(
                f"{IMPORTERS[self.importer].title} adds in float32 only: use precision='float32', or another importer"
            )
        ordered, form = in_order_of_charge(whole), self._form(whole)
        for layer in ordered.layers:
            self._refuse_sums(layer, ordered, form)

    def _refuse_layer(self, layer: Layer) -> None:
        if layer.kind == "maximum":
            raise UnsupportedModel(
                f"{layer.name} is maximum pooling by lateral inhibition, for which NIR has no node: train the "
                f"network with average pooling (nn.AvgPool2d for nn.MaxPool2d) and convert it again, or {ELSEWHERE}"
            )
        if not sources(layer):
            raise UnsupportedModel(
                f"nothing but its bias enters {layer.name}, but a NIR node needs an input; {ELSEWHERE}"
            )
        if layer.kind == "readout":
            if layer.initial.any():
                raise UnsupportedModel(f"{layer.name} starts with charge, which a NIR output cannot have; {ELSEWHERE}")
            return
        if layer.reset != ("subtract" if self.profile == "soft" else "zero"):
            other = "hard" if self.profile == "soft" else "soft"
            raise UnsupportedModel(
                f"{layer.name} has a {other} reset, and profile={self.profile!r} is for networks in which all neurons "
                f"have a {self.profile} one: use profile={other!r}, or convert with reset={self.profile!r}"
            )
        if (layer.threshold <= 0).any():
            raise UnsupportedModel(
                f"{layer.name} has neurons with a threshold of 0, which fire in every step: remove them"
            )
        for value, what in ((layer.threshold, "the threshold"), (layer.initial, "the initial potential")):
            per_channel(value, layer, what)

    def _refuse_sums(self, layer: Layer, whole: Whole, form: Form) -> None:
        """Refuse thresholds that the importer cannot distinguish, and sums that need more bits than it has."""
        charge = np.abs(per_channel(layer.bias, layer, "the bias")).astype(np.float64)
        for source, kernel, _ in kernels_of(layer, whole, form):
            one = whole.table[source]
            largest = 1 if isinstance(one, Layer) else max(abs(one.low), abs(one.high))
            charge = charge + np.abs(kernel.weight).reshape(len(kernel.weight), -1).sum(1).astype(np.float64) * largest
        needed, bits = float(charge.max()), BITS[self.precision]
        if layer.kind != "readout":
            grid, threshold = grid_of(layer), threshold_counts(layer)
            real = threshold * grid
            if self.importer and not IMPORTERS[self.importer].several_thresholds and real.min() < real.max():
                raise UnsupportedModel(
                    f"{layer.name} has several thresholds, but {IMPORTERS[self.importer].title} takes one for each "
                    "layer: use importer='norse', or thresholds that are powers of two times each other"
                )
            needed = 2 * max(needed, float(real.max() / grid.min()))  # half a grid step counts
        if needed >= 2.0**bits:
            raise UnsupportedModel(
                f"the sums of {layer.name} need {ceil(log2(needed + 1))} bits, but {self.precision} adds {bits} of "
                "them exactly, so an importer would round them: convert for fewer time steps"
                + (", or use precision='float64' and run the importer in float64" if bits == 24 else "")
            )

    def _form(self, whole: Whole) -> Form:
        one_axis = not self.importer or IMPORTERS[self.importer].one_axis
        return form_of(whole, self.profile, self.neuron, BITS[self.precision], one_axis)

    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        """Write the network; a NIR graph has no place for samples. Raises UnsupportedModel, FileError, MissingExtra."""
        if missing := self.missing():
            raise MissingExtra(f"a NIR file needs the package nir: {missing}")
        import nir

        self.refuse(whole)
        writer = GraphWriter(in_order_of_charge(whole), self._form(whole))
        graph, file = writer.graph(), io.BytesIO()
        graph.metadata = {"transpike": json.dumps(metadata(whole, writer))}
        nir.write(file, graph)
        write_atomically(path, file.getvalue())

    def missing(self) -> str:
        """The missing dependency of ``run``, with the command that installs it; "" if there is none."""
        return "" if importlib.util.find_spec("nir") else "pip install 'transpike[nir]'"

    def run(self, path: Path, samples: Samples) -> Trains:
        """Run what ``write`` wrote, from its file alone. Raises FileError for a file that is not ours."""
        if missing := self.missing():
            raise MissingExtra(f"a NIR file needs the package nir: {missing}")
        return run(read(path), samples)
