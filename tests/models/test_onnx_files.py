"""ONNX files as networks: every operator against ONNX's own reference, one sample at a time."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import transpike as ts
from commands import run
from stored import stored
from transpike.errors import CheckpointError, NotExact, SettingError, UnsupportedModel, UnsupportedOperator
from transpike.models.onnx_file import from_onnx
from transpike.models.onnx_file import importer as importing

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed: pip install 'transpike[onnx]'")
from onnx_made import array, check, file_of, integers  # noqa: E402  it needs onnx

helper = onnx.helper

IMAGE, ROW = (4, 6, 8), (6,)
CASES = {
    "conv": ("Conv", IMAGE, [array(5, 4, 3, 3), array(5)], {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    "conv, uneven pads": ("Conv", IMAGE, [array(5, 4, 3, 3)], {"pads": [0, 1, 2, 1]}),
    "conv, same upper": ("Conv", IMAGE, [array(5, 4, 2, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "conv, same lower": ("Conv", IMAGE, [array(5, 4, 2, 3)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "conv, groups": ("Conv", IMAGE, [array(4, 1, 3, 3)], {"group": 4, "dilations": [2, 2]}),
    "conv, one axis": ("Conv", (4, 9), [array(5, 4, 3)], {}),
    "conv, three axes": ("Conv", (2, 4, 5, 6), [array(3, 2, 3, 3, 3)], {}),
    "transposed": ("ConvTranspose", IMAGE, [array(4, 3, 3, 3), array(3)], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "transposed, output padding": (
        "ConvTranspose", IMAGE, [array(4, 3, 3, 3)],
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "transposed, more pads in front": (
        "ConvTranspose", IMAGE, [array(4, 3, 3, 3)], {"strides": [2, 2], "pads": [1, 1, 0, 0]},
    ),
    "transposed, more pads at the end": (
        "ConvTranspose", IMAGE, [array(4, 3, 3, 3), array(3)], {"strides": [2, 1], "pads": [0, 0, 1, 2]},
    ),
    "transposed, same upper": ("ConvTranspose", IMAGE, [array(4, 3, 3, 4)], {"strides": [2, 3], "auto_pad": "SAME_UPPER"}),
    "transposed, same lower": ("ConvTranspose", IMAGE, [array(4, 3, 4, 3)], {"strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    "transposed, valid": ("ConvTranspose", IMAGE, [array(4, 3, 3, 3)], {"auto_pad": "VALID"}),
    "gemm": ("Gemm", ROW, [array(7, 6), array(7)], {"transB": 1}),
    "gemm, factors": ("Gemm", ROW, [array(6, 7), array(1)], {"alpha": 0.5, "beta": 2.0}),
    "matmul": ("MatMul", ROW, [array(6, 5)], {}),
    "matmul, three axes": ("MatMul", (4, 6), [array(6, 5)], {}),
    "batch norm": ("BatchNormalization", IMAGE, [array(4), array(4), array(4), np.abs(array(4))], {"epsilon": 1e-3}),
    "instance norm": ("InstanceNormalization", IMAGE, [array(4), array(4)], {}),
    "layer norm": ("LayerNormalization", (4, 6), [array(6), array(6)], {"axis": -1}),
    "layer norm, two axes": ("LayerNormalization", (4, 6), [array(4, 6)], {"axis": 1}),
    "max pool": ("MaxPool", IMAGE, [], {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 1, 1, 1]}),
    "max pool, ceil": ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "average pool": ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "average pool, uneven pads": (
        "AveragePool", IMAGE, [], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 1, 0]},
    ),
    "average pool, same": ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "average pool, counts": (
        "AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 0, 1], "count_include_pad": 1},
    ),
    "global average": ("GlobalAveragePool", IMAGE, [], {}),
    "global maximum": ("GlobalMaxPool", IMAGE, [], {}),
    "resize, nearest": (
        "Resize", IMAGE, [None, np.asarray([1, 1, 2, 2], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "resize, nearest by half pixels": ("Resize", IMAGE, [None, np.asarray([1, 1, 3, 2], np.float32)], {}),
    "resize, bilinear": (
        "Resize", IMAGE, [None, None, integers(1, 4, 9, 11)],
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    ),
    "resize, corners": (
        "Resize", IMAGE, [None, None, integers(1, 4, 9, 11)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    **{
        kind: (kind, IMAGE, [], {})
        for kind in (
            "Relu", "Sigmoid", "Tanh", "Elu", "Celu", "Selu", "Softplus", "Softsign", "HardSwish", "Exp", "Neg", "Abs",
            "Erf", "Identity", "Sin", "Cos", "HardSigmoid",
        )
    },
    "leaky": ("LeakyRelu", IMAGE, [], {"alpha": 0.2}),
    "hard sigmoid of torch": ("HardSigmoid", IMAGE, [], {"alpha": 1 / 6}),
    "elu": ("Elu", IMAGE, [], {"alpha": 0.5}),
    "prelu": ("PRelu", IMAGE, [array(4, 1, 1)], {}),
    "prelu, one": ("PRelu", IMAGE, [array(1)], {}),
    "relu6": ("Clip", IMAGE, [np.float32(0), np.float32(6)], {}),
    "clip": ("Clip", IMAGE, [np.float32(-0.5), np.float32(0.7)], {}),
    "clip, one side": ("Clip", IMAGE, [None, np.float32(0.7)], {}),
    "add, channels": ("Add", IMAGE, [array(4, 1, 1)], {}),
    "add, more axes": ("Add", (4, 6), [array(2, 1, 1, 6)], {}),
    "mul, along the batch": ("Mul", (4,), [array(3, 1)], {}),
    "div": ("Div", IMAGE, [np.float32(3)], {}),
    "pow": ("Pow", IMAGE, [np.float32(2)], {}),
    "max": ("Max", IMAGE, [np.float32(0.1)], {}),
    "min": ("Min", IMAGE, [array(4, 1, 1)], {}),
    "mean of three": ("Mean", IMAGE, [array(1), array(4, 1, 1)], {}),
    "softmax": ("Softmax", (4, 6), [], {"axis": 1}),
    "log softmax": ("LogSoftmax", (4, 6), [], {}),
    "reshape": ("Reshape", IMAGE, [integers(0, 2, -1)], {}),
    "reshape, batch folded": ("Reshape", IMAGE, [integers(2, -1, 8)], {}),
    "reshape, no batch left": ("Reshape", (6,), [integers(-1)], {}),
    "flatten": ("Flatten", IMAGE, [], {}),
    "flatten, axis 2": ("Flatten", IMAGE, [], {"axis": 2}),
    "transpose": ("Transpose", IMAGE, [], {"perm": [0, 2, 3, 1]}),
    "transpose, batch moved": ("Transpose", IMAGE, [], {"perm": [2, 0, 1, 3]}),
    "squeeze": ("Squeeze", (4, 1, 3), [integers(2)], {}),
    "squeeze the batch": ("Squeeze", (4, 3), [integers(0)], {}),
    "unsqueeze": ("Unsqueeze", (4, 3), [integers(0, 2)], {}),
    "slice": ("Slice", IMAGE, [integers(1, 0), integers(2**40, -2), integers(1, -1), integers(1, 2)], {}),
    "slice, backwards": ("Slice", (9,), [integers(-1), integers(-(2**60)), integers(1), integers(-2)], {}),
    "gather": ("Gather", IMAGE, [integers(2, -1, 0)], {"axis": 1}),
    "gather one": ("Gather", IMAGE, [np.asarray(1, np.int64)], {"axis": 2}),
    "gather the batch": ("Gather", IMAGE, [np.asarray(0, np.int64)], {"axis": 0}),
    "gather, two axes": ("Gather", IMAGE, [np.asarray([[0, 1], [2, 3]], np.int64)], {"axis": 1}),
    "join": ("Concat", IMAGE, [array(1, 2, 6, 8)], {"axis": 1}),
    "join along the batch": ("Concat", (4,), [array(2, 4)], {"axis": 0}),
    "pad": ("Pad", IMAGE, [integers(0, 1, 0, 2, 0, 0, 1, 0), np.float32(0.5)], {}),
    "tile": ("Tile", IMAGE, [integers(1, 2, 1, 3)], {}),
    "tile along the batch": ("Tile", (4,), [integers(3, 2)], {}),
    "pad, reflect": ("Pad", IMAGE, [integers(0, 0, 1, 2, 0, 0, 1, 0)], {"mode": "reflect"}),
    "mean": ("ReduceMean", IMAGE, [], {"axes": [2, 3], "keepdims": 0}),
    "mean of everything": ("ReduceMean", IMAGE, [], {}),
    "sum": ("ReduceSum", IMAGE, [integers(-1)], {}),
    "max over channels": ("ReduceMax", IMAGE, [], {"axes": [1]}),
    "expand": ("Expand", (4, 1), [integers(2, 1, 4, 3)], {}),
    "pixel shuffle": ("DepthToSpace", IMAGE, [], {"blocksize": 2, "mode": "CRD"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, "N"])
def test_operators_give_what_the_reference_of_onnx_gives(name, batch, tmp_path):
    kind, shape, constants, attributes = CASES[name]
    named = {f"c{k}": np.asarray(value) for k, value in enumerate(constants) if value is not None}
    inputs = ["x", *("" if value is None else f"c{k}" for k, value in enumerate(constants))]
    path = file_of(tmp_path, [helper.make_node(kind, inputs, ["y"], **attributes)], named, shape=shape, batch=batch)
    check(path, shape)


@pytest.mark.parametrize("name", ["Log", "Sqrt", "Reciprocal"])
def test_functions_of_positive_numbers(name, tmp_path):
    path = file_of(tmp_path, [helper.make_node(name, ["x"], ["y"])], {}, shape=ROW)
    check(path, ROW, x=torch.rand(3, 6, generator=torch.Generator().manual_seed(0)) + 0.1)


@pytest.mark.parametrize(
    ("opset", "kind", "constants", "attributes"),
    [
        (11, "Softmax", [], {"axis": 3}),
        (11, "Squeeze", [], {"axes": [1]}),
        (11, "Unsqueeze", [], {"axes": [2]}),
        (11, "Split", [], {"axis": 3, "split": [2, 4]}),
        (13, "Split", [integers(2, 4)], {"axis": 3}),
        (18, "Split", [], {"axis": 3, "num_outputs": 2}),
        (18, "ReduceMean", [integers(2, 3)], {"keepdims": 1}),
        (20, "Gelu", [], {}),
        (20, "Gelu", [], {"approximate": "tanh"}),
        (18, "Mish", [], {}),
        (21, "GroupNormalization", [array(4), array(4)], {"num_groups": 2}),
        (9, "Upsample", [np.asarray([1, 1, 2, 3], np.float32)], {"mode": "nearest"}),
    ],
)
def test_older_and_newer_forms_of_operators(opset, kind, constants, attributes, tmp_path):
    shape = (1, 4, 6) if kind == "Squeeze" else (4, 4, 6)
    outputs = ["y", "z"] if kind == "Split" else ["y"]
    named = {f"c{k}": value for k, value in enumerate(constants)}
    nodes = [helper.make_node(kind, ["x", *named], outputs, **attributes)]
    check(file_of(tmp_path, nodes, named, shape=shape, opset=opset, outputs=outputs), shape, outputs)


def test_a_channel_shuffle_that_folds_a_batch_of_one_takes_any_batch(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "folded"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["b", "parted"], ["c"]),
        helper.make_node("Gather", ["c", "first"], ["d"], axis=0),
        helper.make_node("Gather", ["c", "second"], ["e"], axis=0),
        helper.make_node("Conv", ["e", "weight"], ["f"]),
        helper.make_node("Concat", ["d", "f"], ["y"], axis=1),
    ]
    constants = {
        "folded": integers(4, 2, 12), "parted": integers(2, -1, 4, 3, 4), "first": np.asarray(0, np.int64),
        "second": np.asarray(1, np.int64), "weight": array(4, 4, 1, 1),
    }  # fmt: skip
    check(file_of(tmp_path, nodes, constants, shape=(8, 3, 4)), (8, 3, 4))


def test_shapes_are_computed_once(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "front"], ["m"]),
        helper.make_node("Concat", ["m", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"zero": np.asarray(0, np.int64), "front": integers(0), "rest": integers(-1)}
    network = check(file_of(tmp_path, nodes, constants, shape=IMAGE, batch="N"), IMAGE)
    assert len(network.plan) == 1


def test_products_of_two_wires_and_joins_of_different_layouts(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["p"]),
        helper.make_node("Squeeze", ["p", "zero"], ["q"]),
        helper.make_node("Mul", ["q", "p"], ["r"]),
        helper.make_node("Einsum", ["q", "q"], ["e"], equation="ij,jk->ik"),
        helper.make_node("Add", ["r", "e"], ["y"]),
    ]
    check(file_of(tmp_path, nodes, {"zero": integers(0)}, shape=(4, 5)), (4, 5))


def test_a_look_up_of_whole_numbers(tmp_path):
    nodes = [helper.make_node("Gather", ["table", "x"], ["e"]), helper.make_node("ReduceMean", ["e"], ["y"], axes=[1])]
    path = file_of(tmp_path, nodes, {"table": array(9, 4)}, shape=(5,), dtype=onnx.TensorProto.INT64)
    check(path, (5,), x=torch.arange(15).reshape(3, 5) % 9)


@pytest.mark.parametrize("fault", ["weight", "axis"])
def test_the_comparison_with_onnxruntime_finds_a_wrong_import(fault, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'transpike[onnx]'")
    path = file_of(tmp_path, [helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": array(6, 6)}, shape=ROW)

    def wrong(steps, node):
        weight = node.required(1)
        weight = weight if fault == "weight" else weight.T
        return importing.layers._linear(steps, node.value(0), weight, None if fault == "weight" else array(6))

    monkeypatch.setitem(importing.OPERATORS, "Gemm", wrong)
    with pytest.raises(NotExact, match="differs from onnxruntime"):
        from_onnx(path)


REFUSED = {
    "custom": (helper.make_node("Fancy", ["x"], ["y"], domain="com.other"), {}, "an operator of com.other"),
    "control flow": (helper.make_node("NonMaxSuppression", ["x", "x"], ["y"]), {}, "selects by value"),
    "quantised": (
        helper.make_node("QuantizeLinear", ["x", "s"], ["y"]), {"s": np.float32(0.1)}, "before it is quantised",
    ),
    "growing": (
        helper.make_node("ConstantOfShape", ["s"], ["y"]), {"s": integers(10**6, 10**6)}, "its result has 1e",
    ),
    "weights from data": (helper.make_node("Conv", ["x", "x"], ["y"]), {}, "depends on the data"),
    "the batch mixed": (helper.make_node("Reshape", ["x", "s"], ["y"]), {"s": integers(2, 6)}, "another batch size"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_its_name(name, tmp_path):
    node, constants, text = REFUSED[name]
    node.name = "the_node"
    path = file_of(tmp_path, [node], constants, shape=ROW)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.other", 1))
    onnx.save(model, path)
    with pytest.raises((UnsupportedOperator, CheckpointError), match=text) as caught:
        from_onnx(path)
    if isinstance(caught.value, UnsupportedOperator):
        assert "the_node" in str(caught.value)


def test_batches_opsets_and_open_sizes_are_refused_with_the_way_out(tmp_path):
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    with pytest.raises(UnsupportedModel, match="fixes a batch of 4"):
        from_onnx(file_of(tmp_path, relu, {}, shape=ROW, batch=4))
    with pytest.raises(UnsupportedModel, match="version_converter"):
        from_onnx(file_of(tmp_path, relu, {}, shape=ROW, opset=7))
    open_sizes = file_of(tmp_path, relu, {}, shape=(3, "height", "width"))
    with pytest.raises(SettingError, match="--input-shape"):
        from_onnx(open_sizes)
    assert from_onnx(open_sizes, (3, 4, 5))[1].input_shape == (3, 4, 5)
    with pytest.raises(SettingError, match="5 instead of 3"):
        from_onnx(open_sizes, (5, 4, 5))


def test_damaged_files_are_refused(tmp_path):
    whole = file_of(tmp_path, [helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": array(6, 6)}, shape=ROW).read_bytes()
    for place, data in enumerate((b"", b"not a file", whole[: len(whole) // 2], bytes(300))):
        path = tmp_path / f"damaged{place}.onnx"
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            from_onnx(path)
    with pytest.raises(CheckpointError, match="no ONNX file"):
        from_onnx(tmp_path / "missing.onnx")


def test_any_changed_byte_gives_a_network_or_a_named_error(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["a"], ["y"])]
    whole = bytearray(file_of(tmp_path, nodes, {"w": array(4, 4, 3, 3)}, shape=IMAGE).read_bytes())
    generator, path, refused = np.random.default_rng(0), tmp_path / "changed.onnx", 0
    for _ in range(150):
        data = bytearray(whole)
        data[generator.integers(len(data))] = generator.integers(256)
        path.write_bytes(data)
        try:
            from_onnx(path)
        except ts.TranspikeError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/etc/hostname", "outside"),
        ("../secret", "outside"),
        ("link", "outside"),
        ("missing", "missing"),
        ("w", "shorter"),
    ],
)
def test_external_data_come_from_the_folder_of_the_file_only(location, text, tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(144))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "w").write_bytes(bytes(100))
    path = file_of(folder, [helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": array(6, 6)}, shape=ROW)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "144")):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=text):
        from_onnx(path)


def test_external_data_next_to_the_file_are_read(tmp_path):
    path = file_of(tmp_path, [helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": array(60, 60)}, shape=(60,))
    onnx.save(onnx.load(path), tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0, location="weights")
    assert (tmp_path / "weights").stat().st_size == 4 * 3600
    check(tmp_path / "net.onnx", (60,))


def digits_file(folder):
    """The stored CNN of the digits as an ONNX file, by hand."""
    network = stored("without-norms")
    nodes, constants, wire = [], {}, "x"
    for index, layer in enumerate(network):
        kind = type(layer).__name__
        out, name = f"v{index}", f"{kind}{index}"
        given = {f"{name}.{key}": value.numpy() for key, value in layer.state_dict().items()}
        if kind == "Conv2d":
            pads = [*layer.padding, *layer.padding]
            node = helper.make_node("Conv", [wire, *given], [out], name, pads=pads, strides=list(layer.stride))
        elif kind == "Linear":
            node = helper.make_node("Gemm", [wire, *given], [out], name, transB=1)
        elif kind == "ReLU":
            node = helper.make_node("Relu", [wire], [out], name)
        else:
            node = helper.make_node("Flatten", [wire], [out], name)
        nodes.append(node)
        constants |= given
        wire = out
    nodes[-1].output[0] = "y"
    return network, file_of(folder, nodes, constants, shape=(1, 8, 8), batch="N")


def test_a_file_is_converted_and_evaluated_from_the_command_line(tmp_path):
    network, path = digits_file(tmp_path)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(from_onnx(path)[0](x), network.eval()(x), atol=1e-5)
    file = tmp_path / "net.transpike"
    run(
        "convert", "--model", f"file:{path}", "--data", "digits", "--recipe", "ecc", "--timesteps", 16, "--output", file
    )
    result = json.loads(run("evaluate", file, "--data", "digits", "--json").output)
    assert result["snn"]["accuracy"] > 0.8  # 90 % here; the network has 96 %


def test_importing_transpike_does_not_import_onnx():
    code = "import sys, transpike, transpike.models; print([n for n in ('onnx', 'onnxruntime', 'nir') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
