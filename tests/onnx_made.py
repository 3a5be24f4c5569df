"""ONNX files made by hand, and what ONNX's reference gives for them."""

import numpy as np
import onnx
import torch
from onnx import helper

from transpike.models.onnx_file import from_onnx

FLOAT = onnx.TensorProto.FLOAT


def array(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).normal(size=shape).astype(np.float32)


def integers(*values):
    return np.asarray(values, np.int64)


def file_of(folder, nodes, constants, *, shape, batch=1, opset=17, outputs=("y",), dtype=FLOAT, name="net.onnx"):
    """An ONNX file of these nodes, whose input is x and whose outputs have shapes that nobody wrote down."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, [batch, *shape])],
        [helper.make_tensor_value_info(one, FLOAT, None) for one in outputs],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    path = folder / name
    onnx.save(model, path)
    return path


def reference(path, x, outputs):
    """What ONNX's reference gives for each sample of a batch."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))
    rows = [evaluator.run(list(outputs), {"x": x[k : k + 1].numpy()}) for k in range(len(x))]
    return [torch.from_numpy(np.stack([np.asarray(row[k]) for row in rows])) for k in range(len(outputs))]


def check(path, shape, outputs=("y",), x=None):
    network, _ = from_onnx(path)
    x = torch.randn((3, *shape), generator=torch.Generator().manual_seed(1)) if x is None else x
    with torch.no_grad():
        found = network(x)
    found = found if isinstance(found, dict) else {outputs[0]: found}
    for ours, theirs in zip(found.values(), reference(path, x, outputs), strict=True):
        assert ours.numel() == theirs.numel()
        assert torch.allclose(ours.reshape(-1).double(), theirs.reshape(-1).double(), rtol=1e-5, atol=1e-5)
    return network
