"""ONNX files as other programs write them: Keras, TensorFlow through tf2onnx, torch with every opset; patterns of operators."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import transpike as ts
from seeded import network
from transpike.errors import UnsupportedOperator
from transpike.models.onnx_file import from_onnx
from transpike.ops.analogue import AnalogueOp

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed: pip install 'transpike[onnx]'")
from onnx_made import array, check, file_of, integers  # noqa: E402  it needs onnx

helper = onnx.helper
FOLDER = Path(__file__).parent / "onnx_files"
FILES = ("keras_convolutional", "keras_rectangles", "keras_tokens", "keras_torch", "tf_plain")


def stored(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and the outputs of onnxruntime."""
    found = np.load(FOLDER / f"{name}.npz")
    return torch.from_numpy(found["x"]), torch.from_numpy(found["y"])


@pytest.mark.parametrize("name", FILES)
def test_files_of_keras_and_tensorflow_give_what_onnxruntime_gave(name):
    network, description = from_onnx(FOLDER / f"{name}.onnx")
    x, y = stored(name)
    assert tuple(x.shape[1:]) == description.input_shape
    with torch.no_grad():
        assert torch.allclose(network(x), y, rtol=1e-5, atol=1e-5)
    layers = [type(layer) for layer in network._modules.values()]
    assert layers.count(nn.LayerNorm) == {"keras_tokens": 2, "tf_plain": 1}.get(name, 0)


@pytest.mark.parametrize("name", FILES)
def test_they_become_spiking_networks(name):
    network, description = from_onnx(FOLDER / f"{name}.onnx")
    x, y = stored(name)
    calibration = torch.randn((32, *description.input_shape), generator=torch.Generator().manual_seed(0))
    snn = ts.convert(network, ts.recipes.StreamingSigmaDelta(timesteps=12, threshold_count=8), calibration)
    answer = ts.simulate(snn, x).logits[-1]
    assert float((answer - y).norm() / y.norm()) < 0.1  # 0.002 to 0.02 here


class Every(nn.Module):
    """A layer of each kind whose form differs between the versions of ONNX's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.mix, self.norm, self.last = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.pad(self.first(x), (1, 0, 0, 1)))
        left, right = x.split([2, 6], 1)
        x = F.interpolate(torch.cat([right, left], 1), scale_factor=2.0)
        x = x.flatten(2).transpose(1, 2)
        x = x + F.gelu(self.mix(self.norm(x))).clamp(min=-0.1)
        return torch.softmax(self.last(x.mean(1, keepdim=True)).squeeze(1), -1)


EVERY = network(Every())


@pytest.mark.parametrize("opset", range(11, 21))
@pytest.mark.filterwarnings("ignore")  # of torch's older exporter, the only one that writes these versions
def test_every_opset_from_11_to_20(opset, tmp_path):
    path, x = tmp_path / "net.onnx", torch.randn(3, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    torch.onnx.export(
        EVERY, (x,), path, opset_version=opset, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
    )
    assert [one.version for one in onnx.load(path).opset_import if not one.domain] == [opset]
    found, _ = from_onnx(path)
    with torch.no_grad():
        assert torch.allclose(found(x), EVERY(x), rtol=1e-5, atol=1e-6)
    assert [type(layer) for layer in found._modules.values()].count(nn.LayerNorm) == 1


def test_a_transposed_convolution_with_a_given_size(tmp_path):
    """By onnxruntime, which ``from_onnx`` asks: the reference of ONNX does not know this form."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'transpike[onnx]'")
    for shape in ([13, 18], [14, 17]):
        node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_shape=shape)
        found, _ = from_onnx(file_of(tmp_path, [node], {"w": array(4, 3, 4, 4)}, shape=(4, 6, 8)))
        assert found(torch.zeros(2, 4, 6, 8)).shape == (2, 3, *shape)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_shape=[15, 18])
    with pytest.raises(UnsupportedOperator, match="longer than what its window reaches"):
        from_onnx(file_of(tmp_path, [node], {"w": array(4, 3, 4, 4)}, shape=(4, 6, 8)))


def norm_nodes(form: str, epsilon: str = "epsilon") -> list:
    """(x − mean)/√(variance + ε) · scale + shift in several spellings."""

    def node(kind, *inputs, to, **attributes):
        return helper.make_node(kind, inputs, [to], **attributes)

    mean = [node("ReduceMean", "x", to="m", axes=[-1])]
    if form == "no kept axis":
        mean = [node("ReduceMean", "x", to="m0", axes=[-1], keepdims=0), node("Unsqueeze", "m0", "last", to="m")]
    square = node("Mul", "d", "d", to="p") if form in ("product", "folded") else node("Pow", "d", "two", to="p")
    found = [*mean, node("Sub", "x", "m", to="d"), square, node("ReduceMean", "p", to="v", axes=[-1])]
    found += [node("Add", "v", epsilon, to="e"), node("Sqrt", "e", to="s")]
    match form:
        case "folded":  # as Keras: x · scale/√… + (shift − mean · scale/√…)
            return [
                *found, node("Reciprocal", "s", to="r"), node("Mul", "r", "scale", to="k"), node("Mul", "x", "k", to="a"),
                node("Mul", "m", "k", to="b"), node("Sub", "shift", "b", to="c"), node("Add", "a", "c", to="y"),
            ]  # fmt: skip
        case "plain":
            return [*found, node("Div", "d", "s", to="y")]
        case "product":
            found += [node("Reciprocal", "s", to="r"), node("Mul", "d", "r", to="n")]
        case _:
            found += [node("Div", "d", "s", to="n")]
    return [*found, node("Mul", "scale", "n", to="g"), node("Add", "g", "shift", to="y")]


NORM = {
    "two": np.float32(2), "epsilon": np.float32(1e-3), "last": integers(-1), "scale": array(6) + 2, "shift": array(1, 6),
}  # fmt: skip


@pytest.mark.parametrize("form", ["torch", "product", "folded", "plain", "no kept axis"])
@pytest.mark.parametrize("shape", [(6,), (4, 6)])
def test_layer_norms_that_are_written_out_become_one_layer(form, shape, tmp_path):
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 5).reshape(
        5, *[1] * len(shape)
    )
    found = check(file_of(tmp_path, norm_nodes(form), NORM, shape=shape), shape, x=x)
    (layer,) = found._modules.values()
    assert type(layer) is nn.LayerNorm and layer.eps == pytest.approx(1e-3)
    if form != "plain":
        assert torch.allclose(layer.weight, torch.from_numpy(NORM["scale"]), atol=1e-6)
        assert torch.allclose(layer.bias, torch.from_numpy(NORM["shift"][0]), atol=1e-6)


def replaced(nodes: list, output: str, *inputs: str, **attributes) -> list:
    """The nodes, that of one output with other inputs."""
    return [
        helper.make_node(node.op_type, inputs or node.input, node.output, **attributes)
        if node.output[0] == output
        else node
        for node in nodes
    ]


@pytest.mark.parametrize(
    "nodes",
    [
        replaced(norm_nodes("torch"), "m", axes=[1]),  # the mean over another axis
        replaced(norm_nodes("torch"), "v", "p", axes=[1, 2]),
        replaced(norm_nodes("torch"), "p", "d", "four"),
        replaced(norm_nodes("torch"), "n", "x", "s"),  # without the mean
        replaced(norm_nodes("torch"), "e", "v", "many"),  # an epsilon for each feature
    ],
    ids=["mean over rows", "variance over all", "fourth power", "mean not subtracted", "several epsilons"],
)
def test_what_is_no_layer_norm_stays_as_it_is(nodes, tmp_path):
    more = {"four": np.float32(4), "many": np.abs(array(6)) + 1}
    x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)) + torch.arange(6)
    found = check(file_of(tmp_path, nodes, NORM | more, shape=(4, 6)), (4, 6), x=x.cumsum(-1))
    assert nn.LayerNorm not in {type(layer) for layer in found._modules.values()} and len(found.plan) == len(nodes)


def test_a_value_inside_a_norm_may_be_read_elsewhere(tmp_path):
    nodes = [
        *norm_nodes("torch")[:-1],
        helper.make_node("Add", ["g", "shift"], ["z"]),
        helper.make_node("Mul", ["z", "d"], ["y"]),
    ]
    found = check(file_of(tmp_path, nodes, NORM, shape=(4, 6)), (4, 6))
    assert [type(layer) for layer in found._modules.values()].count(nn.LayerNorm) == 1 and len(found.plan) == 4


GELU = {
    "erf": [
        helper.make_node("Div", ["x", "root"], ["a"]), helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]), helper.make_node("Mul", ["x", "c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["y"]),
    ],
    "tanh": [
        helper.make_node("Pow", ["x", "three"], ["a"]), helper.make_node("Mul", ["a", "part"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["c"]), helper.make_node("Mul", ["c", "factor"], ["d"]),
        helper.make_node("Tanh", ["d"], ["e"]), helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Mul", ["half", "x"], ["g"]), helper.make_node("Mul", ["g", "f"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", GELU)
def test_gelu_that_is_written_out_becomes_one_activation(form, tmp_path):
    nodes = [helper.make_node("Gemm", ["x0", "w"], ["x"]), *GELU[form], helper.make_node("Gemm", ["y", "w"], ["z"])]
    constants = {
        "root": math.sqrt(2), "one": 1, "half": 0.5, "three": 3, "part": 0.044715, "factor": math.sqrt(2 / math.pi),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in (constants | {"w": array(6, 6)}).items()],
    )  # fmt: skip
    path = tmp_path / "gelu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    network, _ = from_onnx(path)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    snn = ts.convert(network, ts.recipes.StreamingSigmaDelta(timesteps=8), x)
    assert any("is gelu" in remark for remark in ts.evaluate(snn, (x, x), task=ts.tasks.Fidelity()).remarks)
    assert not any(type(node.op) is AnalogueOp for node in snn.graph)
