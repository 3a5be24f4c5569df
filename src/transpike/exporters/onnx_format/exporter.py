"""The exporter for ONNX."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from transpike.core.constraints import check_settings, setting
from transpike.errors import UnsupportedModel
from transpike.exporters.exporter import Exporter
from transpike.exporters.onnx_format.arithmetic import FLOAT_LIMIT, digits, integer_type, peak
from transpike.exporters.onnx_format.models import WAY_OUT, loop_model, step_model
from transpike.exporters.onnx_format.runtime import run_both
from transpike.exporters.onnx_format.step import Step
from transpike.lowering.whole import Layer, Samples, Trains, Whole
from transpike.results.writing import write_atomically


@dataclass(frozen=True)
class Onnx(Exporter):
    """An ONNX file of opset 17, run back by onnxruntime with graph optimisation off and on.

    ``model``: "loop" runs T steps, T an input; "step" runs one, with the states as inputs and outputs, for streams and
    for compilers without loops. Nothing is rounded: sums of synapses are integers below 2²⁴ in float32, everything
    else is integers.
    """

    name: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    reads_late: ClassVar[bool] = True
    every_rule: ClassVar[bool] = True
    model: Literal["loop", "step"] = setting("loop", "All time steps in one run, or one step with states.")

    def __post_init__(self) -> None:
        check_settings(self)

    def refuse(self, whole: Whole) -> None:
        for front in (one.front for one in whole.entrances if one.front is not None):
            if front.term.kind != "scale":
                digits(front.term, max(abs(front.low), abs(front.high)))
        for layer in whole.layers:
            if layer.kind == "maximum":
                _check_maximum(whole, layer)
                continue
            if not layer.terms and not layer.currents:
                raise UnsupportedModel(f"{layer.name} receives nothing, so its batch is unknown: remove the layer")
            integer_type(whole, layer)
            for term in layer.terms:
                if term.kind != "scale":
                    digits(term, peak(whole, term.source))

    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        self.refuse(whole)
        model = (loop_model if self.model == "loop" else step_model)(Step(whole))
        write_atomically(path, model.SerializeToString(deterministic=True))

    def missing(self) -> str:
        absent = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
        return (
            f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: {WAY_OUT}" if absent else ""
        )

    def run(self, path: Path, samples: Samples) -> Trains:
        return run_both(path, samples)


def _check_maximum(whole: Whole, layer: Layer) -> None:
    most = whole.timesteps * peak(whole, layer.source)
    if most > FLOAT_LIMIT:
        raise UnsupportedModel(
            f"{layer.name}: counts up to {most:,} exceed the exact range of float32; use fewer time steps or input "
            "levels"
        )
