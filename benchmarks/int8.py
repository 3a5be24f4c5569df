"""The ANN in ONNX Runtime: in float32, and in int8 by its static quantisation. Rows of cases.py.

    python benchmarks/int8.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Weights per channel (signed), activations per tensor (unsigned), ranges from the calibration images that the
conversions see. Both formats of ONNX Runtime are made, and the faster one is kept. Run alone, it prints the accuracy.
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import interleaved
from torch import Tensor, nn

FLOAT, INT8 = "ANN, ONNX Runtime float32", "ANN, ONNX Runtime int8"
FORMATS = ("QOperator", "QDQ")
ROUNDS = 10
CALIBRATED = 32  # images of one calibration batch: ONNX Runtime keeps what all layers give for it
PACKAGES = ("onnx", "onnxruntime")


def missing() -> str:
    """Why these rows cannot be had, or nothing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def instructions() -> str:
    """The best instructions that ONNX Runtime finds for integers; it cannot be told to use others."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = set(next((line.split() for line in lines if line.startswith("flags")), ()))
    if not flags:
        return platform.machine()
    vector = "AVX-512" if "avx512bw" in flags else "AVX2" if "avx2" in flags else "baseline"
    dot = {"AVX-512": "avx512_vnni", "AVX2": "avx_vnni"}.get(vector)
    return f"{vector} with VNNI" if dot in flags else f"{vector} without VNNI"


@dataclass(frozen=True)
class Session:
    """A network in ONNX Runtime, with as many threads as torch has. (batch, *shape) float32 → logits."""

    session: Any
    form: str

    def __call__(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"x": x.numpy()})[0])


def _session(path: Path, form: str) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # it would list what it cannot optimise
    return Session(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), form)


class _Batches:
    """What ONNX Runtime calls a calibration data reader."""

    def __init__(self, batches: Iterable[Tensor]) -> None:
        self.parts: Iterator[Tensor] = (part for x in batches for part in x.split(CALIBRATED))

    def get_next(self) -> dict[str, Any] | None:
        part = next(self.parts, None)
        return None if part is None else {"x": part.contiguous().numpy()}


def sessions(model: nn.Module, batches: list[Tensor]) -> dict[str, Session]:
    """A network in evaluation mode as FLOAT and in each of FORMATS; ``batches`` calibrate."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # without VNNI, sums of two products of 8 bits saturate: weights then have 7 bits, as ONNX Runtime advises
    narrow = "without VNNI" in instructions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _export(model, batches[0][:2], folder / "float.onnx")
        quant_pre_process(folder / "float.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
        found = {FLOAT: _session(folder / "float.onnx", "NCHW")}
        for form in FORMATS:
            quantization.quantize_static(
                folder / "prepared.onnx", folder / f"{form}.onnx", _Batches(batches),
                quant_format=quantization.QuantFormat[form], per_channel=True, reduce_range=narrow,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip
            found[form] = _session(folder / f"{form}.onnx", f"NCHW, {form}{', 7-bit weights' if narrow else ''}")
    return found


def fastest(found: dict[str, Session], x: Tensor) -> Session:
    """The int8 session that answers x faster, by the best of a few calls in turn."""
    least = dict.fromkeys(FORMATS, float("inf"))
    for _ in range(ROUNDS):
        for form in FORMATS:
            start = time.perf_counter()
            found[form](x)
            least[form] = min(least[form], time.perf_counter() - start)
    return found[min(least, key=least.__getitem__)]


def _export(model: nn.Module, x: Tensor, path: Path) -> None:
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's older exporter, which needs no further package
        torch.onnx.export(
            model, (x.contiguous(),), path, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
        )


@torch.inference_mode()
def accuracy(answer: Callable[[Tensor], Tensor], prepare: Callable[[Tensor], Tensor], data: Iterable) -> float:
    right = images = 0
    for x, y in data:
        right += int((answer(prepare(x)).argmax(1) == y).sum())
        images += len(y)
    return right / images


def main() -> None:
    import cases

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--calibration-samples", type=int, default=1000)
    parser.add_argument("--accuracy-images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    import transpike as ts

    one = cases.case(cases.NETWORKS[0], arguments, ts.data.load("cifar10", arguments.data_dir))
    x = one.preprocessing(one.images(arguments.batch))
    answers: dict[str, Callable[[Tensor], Tensor]] = {cases.ANN: one.model}
    found = sessions(one.model, one.peer_batches)
    answers |= {FLOAT: found[FLOAT], INT8: fastest(found, x)}
    timings = interleaved({name: lambda a=answer: a(x) for name, answer in answers.items()}, 2, 0.2)  # type: ignore[misc]
    for name, answer in answers.items():
        data = one.dataset.test.batches(32, limit=arguments.accuracy_images)
        row = {"engine": name, "accuracy": accuracy(answer, one.preprocessing, data), "seconds": timings[name].median,
               "fastest": min(timings[name].seconds, default=None), "form": getattr(answer, "form", ""),
               "instructions": instructions()}  # fmt: skip
        print(json.dumps(row))


if __name__ == "__main__":
    main()
