"""ONNX files: mutations of their bytes, and of what protobuf finds in them, so that operators meet inputs that do not fit."""

import math
from pathlib import Path
from random import Random
from typing import Any

import mutations
import numpy as np
import onnx
import torch
from google.protobuf.message import EncodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from transpike.models.onnx_file import from_onnx

FOLDER = Path(__file__).parents[1] / "models/onnx_files"
FILES = ("keras_convolutional", "keras_rectangles", "keras_tokens", "keras_torch", "tf_plain")
SIZES = (0, 1, -1, 2, 3, 7, 255, 2**16, 2**24, 2**31 - 1, 2**31, 2**40, 2**62, -(2**31), -(2**63), 2**63 - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
KINDS = (
    "Add", "AveragePool", "Cast", "Clip", "Concat", "ConstantOfShape", "Conv", "ConvTranspose", "Einsum", "Erf", "Expand",
    "Flatten", "Gather", "Gemm", "If", "LayerNormalization", "Loop", "MatMul", "MaxPool", "Pad", "Pow", "PRelu", "Range",
    "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Slice", "Softmax", "Split", "Squeeze", "Tile", "TopK", "Transpose",
    "Unsqueeze", "Upsample", "Where", "no such operator", "",
)  # fmt: skip


OPTIONS: tuple[tuple[str, Any], ...] = (
    ("auto_pad", "SAME_LOWER"), ("auto_pad", "VALID"), ("ceil_mode", 1), ("count_include_pad", 1), ("dilations", [2, 2]),
    ("dilations", [2**40, 1]), ("group", None), ("axis", None), ("allowzero", 1), ("transA", 1), ("transB", 1),
    ("output_shape", [2**20, 2**20]), ("output_padding", [1, 1]), ("storage_order", 1), ("keepdims", 0), ("epsilon", -1.0),
    ("alpha", float("nan")), ("mode", "cubic"), ("num_outputs", None), ("strides", [2**30, 1]), ("pads", [2**30] * 4),
)  # fmt: skip


def content(name: str) -> bytes:
    return (FOLDER / f"{name}.onnx").read_bytes()


def mutated(data: bytes, random: Random) -> bytes:
    """One to four edits of the bytes, or of the model."""
    if random.random() < 0.15:
        return mutations.bytes_of(data, random)
    model = onnx.load_from_string(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice(EDITS)(model, random)
    try:
        return model.SerializeToString()
    except (EncodeError, ValueError):  # half of a surrogate pair, more than 2 GiB
        return mutations.bytes_of(data, random)


def _node(model: ModelProto, random: Random) -> NodeProto:
    return random.choice(model.graph.node) if model.graph.node else model.graph.node.add()


def _tensor(model: ModelProto, random: Random) -> TensorProto:
    """A weight, or the value of an attribute."""
    found = [*model.graph.initializer]
    found += [one.t for node in model.graph.node for one in node.attribute if one.HasField("t")]
    return random.choice(found) if found else model.graph.initializer.add()


def _attribute(model: ModelProto, random: Random) -> None:
    """Another value of the same type; seldom another type or name, which the checker of ONNX finds."""
    holders = [node for node in model.graph.node if node.attribute]
    if not holders:
        return
    one = random.choice(random.choice(holders).attribute)
    if random.random() < 0.05:
        one.type = random.choice(
            (AttributeProto.INT, AttributeProto.FLOATS, AttributeProto.GRAPH, AttributeProto.STRING)
        )
    elif random.random() < 0.05:
        one.name = random.choice(
            ("axis", "axes", "pads", "kernel_shape", "strides", "perm", "to", "group", "auto_pad", "")
        )
    elif one.type == AttributeProto.INT:
        one.i = random.choice(SIZES)
    elif one.type == AttributeProto.FLOAT:
        one.f = random.choice(REALS)
    elif one.type == AttributeProto.STRING:
        one.s = random.choice((b"", b"SAME_UPPER", b"linear", b"\xff\xfe", b"x" * 5000, b"ij,jk->ik", b"..." * 30))
    elif one.type == AttributeProto.INTS and one.ints:
        edit = random.randrange(3)
        if edit == 0:
            one.ints.append(random.choice(SIZES))
        elif edit == 1:
            del one.ints[random.randrange(len(one.ints)) :]
        else:
            one.ints[random.randrange(len(one.ints))] = random.choice(SIZES)


def _option(model: ModelProto, random: Random) -> None:
    """An attribute that the node does not have."""
    node = _node(model, random)
    name, value = random.choice(OPTIONS)
    if name not in {one.name for one in node.attribute}:
        node.attribute.append(helper.make_attribute(name, random.choice(SIZES) if value is None else value))


def _kind(model: ModelProto, random: Random) -> None:
    node = _node(model, random)
    node.op_type = random.choice(KINDS)
    if random.random() < 0.05:
        node.domain = random.choice(("ai.onnx", "ai.onnx.ml", "com.microsoft", "\x00"))


def _wires(model: ModelProto, random: Random) -> None:
    """Other inputs, most of them known at that place."""
    if not model.graph.node:
        return
    place = random.randrange(len(model.graph.node))
    node = model.graph.node[place]
    names = [one.name for one in (*model.graph.initializer, *model.graph.input)]
    names += [name for one in model.graph.node[:place] for name in one.output]
    edit = random.randrange(12)
    if edit < 7 and node.input:
        node.input[random.randrange(len(node.input))] = random.choice((*names, ""))
    elif edit == 7 and node.input:
        del node.input[-1]
    elif edit < 10:
        node.input.append(random.choice(names or [""]))
    elif edit == 10 and node.output:
        node.output[0] = random.choice(names or [""])
    elif node.output:
        node.output.append(f"more {random.randrange(10)}")


def _order(model: ModelProto, random: Random) -> None:
    nodes, place = list(model.graph.node), random.randrange(max(1, len(model.graph.node)))
    edit = random.randrange(3)
    if edit == 0:
        del model.graph.node[place]
    elif edit == 1 and nodes:
        model.graph.node.add().CopyFrom(nodes[place])
    else:
        random.shuffle(nodes)
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def _weight(model: ModelProto, random: Random) -> None:
    tensor, edit = _tensor(model, random), random.randrange(10)
    if edit < 5:
        _reshaped(tensor, random)
    elif edit == 5:
        tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]
    elif edit == 6:
        tensor.data_type = random.choice((*range(24), 99, -1))
    elif edit == 7 and len(tensor.raw_data) >= 4 and tensor.data_type == TensorProto.FLOAT:
        found = bytearray(tensor.raw_data)
        place = 4 * random.randrange(len(found) // 4)
        found[place : place + 4] = np.float32(random.choice(REALS)).tobytes()
        tensor.raw_data = bytes(found)
    elif edit == 8:
        tensor.data_location = TensorProto.EXTERNAL
        place = random.choice(("net.onnx", "../x", "/etc/passwd", "", "weights", "a\x00b", "/dev/zero"))
        for key, value in (("location", place), ("offset", str(random.choice(SIZES))), ("length", "12")):
            tensor.external_data.add(key=key, value=value)
    else:
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(random.choice(SIZES), np.int64), tensor.name))


def _reshaped(tensor: TensorProto, random: Random) -> None:
    """Another shape with the bytes for it, or hostile integers; a shape that no bytes can have stays alone."""
    if tensor.data_type == TensorProto.INT64:
        few = [
            random.choice(SIZES) if random.random() < 0.3 else random.randrange(-2, 9)
            for _ in range(random.randrange(5))
        ]
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(few, np.int64), tensor.name))
        return
    shape = list(tensor.dims)
    edit = random.randrange(4)
    if edit == 0 or not shape:
        shape.insert(random.randrange(len(shape) + 1), random.choice((0, 1, 2, 3)))
    elif edit == 1:
        del shape[random.randrange(len(shape))]
    else:
        shape[random.randrange(len(shape))] = random.choice((0, 1, 2, 5, 64, *SIZES))
    count = math.prod(shape)
    if tensor.data_type == TensorProto.FLOAT and 0 <= count <= 2**16:
        tensor.CopyFrom(numpy_helper.from_array(np.resize(np.float32([0.5, -1, 2]), shape), tensor.name))
    else:
        tensor.dims[:] = [min(max(size, -(2**63)), 2**63 - 1) for size in shape]


def _heads(model: ModelProto, random: Random) -> None:
    """Versions, and what the file says about inputs and outputs."""
    edit = random.randrange(6)
    if edit == 0 and model.opset_import:
        random.choice(model.opset_import).version = random.choice((*range(1, 26), *SIZES))
    elif edit == 1:
        model.ir_version = random.choice((0, 1, 3, 8, 10, 13, 2**31, 2**62))
    elif edit == 2:
        model.functions.add(name="f", domain=random.choice(("", "x")), input=["a"], output=["b"])
    elif edit == 3:
        graph: GraphProto = model.graph
        random.choice((graph.input, graph.output)).add(name=random.choice(("x", "y", "")))
    else:
        values = [*model.graph.input, *model.graph.output]
        kind = random.choice(values).type.tensor_type if values else model.graph.input.add().type.tensor_type
        if edit == 4 and kind.shape.dim:
            random.choice(kind.shape.dim).dim_value = random.choice(SIZES)
        else:
            kind.elem_type = random.choice((*range(24), 99))


EDITS = (*[_attribute] * 4, _option, _kind, *[_wires] * 3, _order, *[_weight] * 4, _heads)


def use(path: Path) -> str:
    """What ``--model file:net.onnx`` does: read the network and run it."""
    network, description = from_onnx(path)
    if not description.input_shape:
        return str(network)
    with torch.no_grad():
        found: Any = network(torch.zeros(2, *description.input_shape))
    return f"{network} {found if isinstance(found, dict) else found.shape}"
