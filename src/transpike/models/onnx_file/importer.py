"""From an ONNX file to an ``nn.Module`` of torch's own layers, which captures and runs like any other network."""

import contextlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.errors import (
    CheckpointError,
    MissingExtra,
    NotExact,
    SettingError,
    UnsupportedModel,
    UnsupportedOperator,
)
from transpike.models._base import Model
from transpike.models.onnx_file import elementwise, layers, shapes
from transpike.models.onnx_file.layer_norms import joined_norms, used
from transpike.models.onnx_file.reading import array, library, read, version_of
from transpike.models.onnx_file.values import FEW, GROWTH, Constant, Node, Steps, Unknown, Value

OPERATORS = {**layers.OPERATORS, **shapes.OPERATORS, **elementwise.OPERATORS}
WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "Einsum")
FOLDED = frozenset(
    (
        *(kind for kind in OPERATORS if kind not in WINDOWS), "Shape", "Size", "Constant", "ConstantOfShape", "Range",
        "Where", "Equal", "Greater", "Less", "Not", "And", "Or", "Floor", "Ceil", "Round", "Mod", "NonZero",
        "ScatterND", "Sign", "GreaterOrEqual", "LessOrEqual", "Trilu", "CumSum", "ReduceProd",
    )
)  # fmt: skip
"""Operators that are computed once if their inputs are constants."""
GROWING = ("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Upsample")
LARGEST = 2**28  # elements of an input
TYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip
"""Types of inputs, by their numbers in ONNX."""
EXAMPLES = 2  # samples of the example: a batch of 1 would hide a mistake
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


class OnnxNetwork(nn.Module):
    """The layers of an ONNX file, in its order. One input or several by position; one output, or several by name."""

    def __init__(
        self,
        steps: Steps,
        inputs: list[str],
        outputs: dict[str, str],
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.plan = inputs, outputs, []
        taken: dict[str, int] = {}
        for where, layer, sources, results in steps.layers:
            name = re.sub(r"\W+", "_", where).strip("_") or "layer"
            name = f"n{name}" if name[0].isdigit() or hasattr(nn.Module, name) else name
            taken[name] = taken.get(name, 0) + 1
            name = name if taken[name] == 1 else f"{name}_{taken[name]}"
            while name in self._modules:
                name += "_"
            self.add_module(name, layer)
            self.plan.append((name, sources, results))
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        if len(inputs) != len(self.inputs):
            raise TypeError(
                f"the network takes {len(self.inputs)} inputs ({', '.join(self.inputs)}), not {len(inputs)}"
            )
        values = dict(zip(self.inputs, inputs, strict=True))
        for name, sources, results in self.plan:
            found = self._modules[name](*(values[one] for one in sources))  # type: ignore[misc]
            values.update(zip(results, (found,) if isinstance(found, Tensor) else found, strict=True))
        if len(self.outputs) == 1:
            return values[next(iter(self.outputs.values()))]
        return {name: values[source] for name, source in self.outputs.items()}


def from_onnx(path: str | Path, input_shape: tuple[int, ...] | None = None) -> tuple[nn.Module, Model]:
    """The network of an ONNX file and its description; it is checked against onnxruntime where that is installed.

    ``input_shape`` (without the batch axis) is needed where the file leaves sizes open. Raises CheckpointError for a
    damaged file, UnsupportedOperator with every operator that is not read, NotExact where onnxruntime's outputs differ.
    """
    path = Path(path)
    model = read(path)
    reader = _Reader(model, path, input_shape)
    network = reader.network()

    def build(classes: int, channels: int) -> nn.Module:
        return from_onnx(path, input_shape)[0]

    shape = reader.shapes[0] if len(reader.shapes) == 1 else ()
    outputs = list(reader.outputs.values())
    classes = outputs[0].shape[-1] if len(outputs) == 1 and len(outputs[0].shape) == 2 else 0
    return network, Model(f"file:{path}", build, shape, Preprocessing(), classes)


class _Reader:
    """Walks the file's graph once: constants are computed, everything else becomes layers."""

    def __init__(self, model: Any, path: Path, input_shape: tuple[int, ...] | None) -> None:
        self.model, self.path, self.version = model, path, version_of(model)
        self.steps = Steps()
        self.values: dict[str, Value | Constant | None] = {"": None}
        self.refused: list[tuple[str, str, str]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.names: list[str] = []
        self.types: list[Any] = []
        self.outputs: dict[str, Value] = {}
        for tensor in model.graph.initializer:
            self.values[tensor.name] = array(tensor, path)
        if model.graph.sparse_initializer:
            raise UnsupportedModel(f"{path} contains sparse weights; save them as dense tensors")
        for value in model.graph.input:
            if value.name not in self.values:
                self._input(value, input_shape)
        elements = sum(math.prod(shape) for shape in self.shapes)
        self.steps.limit = max(FEW, GROWTH * EXAMPLES * elements)
        if not self.names:
            raise UnsupportedModel(f"{path} has no input")

    def _input(self, value: Any, wanted: tuple[int, ...] | None) -> None:
        kind = value.type.tensor_type
        sizes = [one.dim_value if one.HasField("dim_value") else None for one in kind.shape.dim]
        if not sizes:
            raise UnsupportedModel(f"{self.path}: the input {value.name!r} has no shape")
        if sizes[0] not in (None, 0, 1):
            raise UnsupportedModel(
                f"{self.path} fixes a batch of {sizes[0]} samples (input {value.name!r}, shape {sizes}): export it "
                "with an open batch axis (dynamic_axes, dynamic_shapes), or with a batch of 1"
            )
        rest = [size or None for size in sizes[1:]]
        if wanted is not None and len(rest) == len(wanted):
            clash = [f"{a} instead of {b}" for a, b in zip(wanted, rest, strict=True) if b not in (None, a)]
            if clash:
                raise SettingError(f"{self.path} takes inputs of shape {rest}; the given shape has {', '.join(clash)}")
            rest = list(wanted)
        if None in rest:
            text = ", ".join("?" if size is None else str(size) for size in rest)
            raise SettingError(
                f"{self.path} leaves sizes of the input {value.name!r} open ({text}): pass them with --input-shape "
                "(input_shape=… in Python), like 3,224,224"
            )
        dtype = TYPES.get(kind.elem_type)
        shape = tuple(int(size) for size in rest)  # type: ignore[arg-type]
        if dtype is None or math.prod(shape) > LARGEST or min(shape, default=1) < 0:
            what = f"elements of type {kind.elem_type} of ONNX" if dtype is None else f"the shape {list(shape)}"
            raise UnsupportedModel(
                f"{self.path}: the input {value.name!r} has {what}; networks take real or integers, at most "
                f"{LARGEST:,} of a sample"
            )
        example = torch.rand((EXAMPLES, *shape), generator=torch.Generator().manual_seed(0))
        if not np.issubdtype(dtype, np.floating):
            example = torch.zeros((EXAMPLES, *shape), dtype=torch.int64)
        self.types.append(dtype)
        self.values[value.name] = Value(value.name, example, 0)
        self.names.append(value.name)
        self.shapes.append(shape)

    def network(self) -> nn.Module:
        for index, node in enumerate(self.model.graph.node):
            self._node(node, node.name or f"{node.op_type}_{index}")
        if self.refused:
            rows = [f"  {kind} ({name}): {reason}" for kind, name, reason in self.refused]
            raise UnsupportedOperator(
                f"{len(rows)} place{'s' * (len(rows) > 1)} of {self.path} cannot be read:\n" + "\n".join(rows),
                tuple((kind, name, self.path.name) for kind, name, _ in self.refused),
            )
        for value in self.model.graph.output:
            found = self.values.get(value.name)
            if not isinstance(found, Value):
                raise UnsupportedModel(f"{self.path}: the output {value.name!r} does not depend on the input")
            if not found.tensor.numel():
                raise UnsupportedModel(f"{self.path}: the output {value.name!r} of shape {list(found.shape)} is empty")
            self.outputs[value.name] = found
        self.steps.layers = used(joined_norms(self.steps), {one.name for one in self.outputs.values()})
        network = OnnxNetwork(self.steps, self.names, {name: one.name for name, one in self.outputs.items()})
        self._check(network)
        return network

    def _node(self, node: Any, name: str) -> None:
        unread = [one for one in node.input if one not in self.values]
        if unread:
            if not self.refused:
                raise CheckpointError(
                    f"{self.path}: {node.op_type} ({name}) reads {unread[0]!r}, which nothing computes"
                )
            return  # after a refused operator
        given = tuple(self.values[one] for one in node.input)
        try:
            attributes = {one.name: library().helper.get_attribute_value(one) for one in node.attribute}
            one = Node(name, node.op_type, self.version, attributes, given, tuple(node.output))
            if node.domain not in ("", "ai.onnx"):
                raise Unknown(f"an operator of {node.domain}, not of ONNX")
            if node.op_type == "Shape" and isinstance(given[0], Value):
                shape = given[0].shape
                taken = slice(attributes.get("start", 0), attributes.get("end", len(shape)))
                found: list[Any] = [np.asarray(shape[taken], np.int64)]
            elif node.op_type == "Size" and isinstance(given[0], Value):
                found = [np.asarray(int(np.prod(given[0].shape)), np.int64)]
            elif not any(isinstance(value, Value) for value in given):
                found = self._folded(node, given)
            elif node.op_type in OPERATORS:
                self.steps.where = name
                result = OPERATORS[node.op_type](self.steps, one)
                found = result if isinstance(result, list) else [result]
            else:
                raise Unknown(_reason(node.op_type))
        except Unknown as error:
            self.refused.append((node.op_type, name, str(error)))
            return
        except Exception as error:  # of torch, numpy and ONNX's reference, which evaluates constants
            first = next(iter(str(error).strip().splitlines()), "")
            raise CheckpointError(
                f"{self.path}: {node.op_type} ({name}) does not fit its inputs "
                f"({', '.join(_shape_text(value) for value in given)}): {first}"
            ) from error
        self.values.update(zip((o for o in node.output), found, strict=False))

    def _folded(self, node: Any, given: tuple[Any, ...]) -> list[Constant]:
        """The outputs of an operator of constants, by ONNX's reference."""
        if node.op_type not in FOLDED:
            raise Unknown(_reason(node.op_type))
        with contextlib.suppress(ValueError, IndexError, TypeError, ZeroDivisionError, AttributeError):
            # shapes that do not fit: the reference tells more
            self.steps.check_size(_constant_size(node, given))
        evaluator = library("onnx.reference").ReferenceEvaluator(node, opsets={"": self.version})
        named = {name: value for name, value in zip(node.input, given, strict=True) if name}
        return [np.asarray(one) for one in evaluator.run(None, named)]

    def _check(self, network: nn.Module) -> None:
        """Compare with onnxruntime, one sample at a time, as a file with a fixed batch asks."""
        try:
            runtime = library("onnxruntime")
        except MissingExtra:  # the importer does not need it
            return
        options = runtime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        examples = [self.values[name].tensor for name in self.names]  # type: ignore[union-attr]
        with torch.no_grad():
            found = network(*examples)
        found = found if isinstance(found, dict) else {next(iter(self.outputs)): found}
        try:
            session = runtime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
            rows = [session.run(list(found), self._feeds(examples, sample)) for sample in range(EXAMPLES)]
        except Exception as error:  # onnxruntime has its own classes of errors
            if type(error).__name__ == "NotImplemented":  # of a type or version that it lacks: nothing to compare with
                return
            first = next(iter(str(error).strip().splitlines()), "")[:300]
            raise CheckpointError(f"{self.path}: onnxruntime refuses the file ({first})") from error
        for sample, row in enumerate(rows):
            for (name, ours), theirs in zip(found.items(), row, strict=True):
                compare(f"{self.path}, output {name!r}", ours[sample].reshape(-1), torch.from_numpy(theirs).reshape(-1))

    def _feeds(self, examples: list[Tensor], sample: int) -> dict[str, Any]:
        """One sample of the examples, as onnxruntime takes it."""
        rows = zip(self.names, examples, self.types, strict=True)
        return {name: example[sample : sample + 1].numpy().astype(dtype) for name, example, dtype in rows}


def _constant_size(node: Any, given: tuple[Any, ...]) -> float:
    """The number of elements that an operator makes of constants, at least where it can make many of few."""
    kind, first = node.op_type, np.asarray(given[0]) if given else np.zeros(0)
    if kind == "Range":
        start, end, step = (float(np.asarray(value).ravel()[0]) for value in given[:3])
        return abs(end - start) / max(abs(step), 1e-30)
    if kind == "Resize" and len(given) > 3:
        return float(np.prod(np.asarray(given[3], np.float64)))
    if kind in GROWING:
        sizes = np.abs(np.asarray(given[0 if kind == "ConstantOfShape" else 2 if kind == "Resize" else 1], np.float64))
        times = first.size if kind in ("Tile", "Resize", "Upsample", "Pad") else 1
        return float(np.prod(sizes + (kind == "Pad"))) * times
    if kind in ("MatMul", "Gemm"):
        return first.size / first.shape[-1] * (given[1].size / given[1].shape[-2])
    if kind == "Gather":
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        return given[1].size * first.size / first.shape[axis]
    return float(math.prod(np.broadcast_shapes(*(np.shape(value) for value in given if value is not None))))


def compare(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Raises NotExact if outputs of the imported network differ from those of onnxruntime by more than rounding.

    Where both are NaN or infinite they count as equal: weights may make them so.
    """
    known = torch.isfinite(theirs)
    same = ours.shape == theirs.shape and torch.equal(known, torch.isfinite(ours))
    if same and not bool(known.any()):
        return
    largest = float(theirs[known].abs().max().clamp(min=1.0)) if bool(known.any()) else 1.0
    difference = float((ours[known] - theirs[known]).abs().max()) if same else math.nan
    if not difference <= 1e-3 * largest:
        raise NotExact(
            f"{what}: the imported network differs from onnxruntime (largest difference {difference:.3g} of "
            f"{largest:.3g}); this is a fault of the importer: please report it with the file"
        )


def _shape_text(value: Any) -> str:
    if value is None:
        return "none"
    return f"{'constant ' if not isinstance(value, Value) else ''}{list(value.shape)}"


def _reason(kind: str) -> str:
    if kind in QUANTISED:
        return "an operator of a quantised network; export the network before it is quantised"
    if kind in ("If", "Loop", "Scan"):
        return "control flow that depends on the data; export the network as a fixed sequence of operators"
    if kind in ("NonMaxSuppression", "TopK", "NonZero"):
        return "it selects by value; cut the file before it, and decode the outputs outside the network"
    return "this operator is not read"
