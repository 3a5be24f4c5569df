"""ONNX files give every spike and every total, with optimisation and without; faults in a file are found."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import transpike as ts
from networks import STEPS, Case, cases, converted, recipes
from stored import stored
from transpike.core.recipe import Recipe
from transpike.core.version import __version__
from transpike.errors import DataError, FileError, GateFailed, MissingExtra, SettingError, UnsupportedModel
from transpike.exporters.onnx_format import Onnx, models
from transpike.exporters.onnx_format.arithmetic import FLOAT_LIMIT, digits, narrowest, reach
from transpike.exporters.onnx_format.metadata import digest
from transpike.exporters.onnx_format.names import Names
from transpike.lowering.whole import Entrance, Front, Layer, Samples, Term, Trains, Whole, Window
from transpike.lowering.whole_form import whole_form
from transpike.lowering.whole_run import charge_of, run_whole
from transpike.workflow.export import trains_of
from whole_networks import NETWORKS, Exported, demo, differences, network, resnet20

onnx = pytest.importorskip("onnx", reason="needs transpike[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs transpike[onnx]")
MODELS = ("loop", "step")


def write(exporter: Onnx, one: Exported, path: Path) -> Path:
    exporter.write(one.whole, path, one.samples, one.expected)
    return path


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_files_give_every_spike(name: str, model: str, tmp_path: Path) -> None:
    one, exporter = network(name), Onnx(model=model)
    path = write(exporter, one, tmp_path / "net.onnx")
    found = exporter.run(path, one.samples)
    assert differences(one.expected, found) == 0 and found.potentials.keys() == one.expected.potentials.keys()
    proto = onnx.load(path)
    assert [opset.version for opset in proto.opset_import] == [17]
    names = [name for graph in graphs(proto.graph) for node in graph.node for name in node.output]
    assert len(names) == len(set(names)) and all(one.isidentifier() for one in names)


def test_logits_are_those_of_transpike(tmp_path: Path) -> None:
    """Bit for bit, at every step, in the demo network at its full number of steps."""
    one = demo()
    for model in MODELS:
        path = write(Onnx(model=model), one, tmp_path / f"{model}.onnx")
        assert differences(one.expected, Onnx(model=model).run(path, one.samples)) == 0
    assert one.snn is not None and one.x is not None
    trace = one.snn.run(one.x, 64, record=list(one.expected.levels))
    for name, levels in one.expected.levels.items():
        assert np.array_equal(levels, trace.trains[name].numpy())
    entering = one.samples.entering["relu.current"].astype(np.int32)
    loop, step = (onnxruntime.InferenceSession(tmp_path / f"{model}.onnx") for model in MODELS)
    logits = loop.run(["logits"], {"relu_current": entering, "timesteps": np.array(64)})[0]
    assert np.array_equal(logits, trace.logits.numpy())
    states: dict[str, np.ndarray] = {}
    names = [output.name for output in step.get_outputs()]
    for t in range(64):
        found = dict(zip(names, step.run(None, {"relu_current": entering, "step": np.array(t), **states}), strict=True))
        states = {name.removesuffix("_next"): found[name] for name in names if name.endswith("_next")}
        assert np.array_equal(found["logits"], trace.logits[t].numpy())


@settings(max_examples=8, deadline=None)
@given(cases(), recipes(), st.sampled_from(MODELS))
def test_random_networks(case: Case, recipe: Recipe, model: str) -> None:
    snn = converted(case, recipe)
    try:
        whole = whole_form(snn.program, STEPS)
    except UnsupportedModel:
        assume(False)
    samples, expected = trains_of(snn, whole, case.x, STEPS)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        Onnx(model=model).write(whole, path, samples, expected)
        assert differences(expected, Onnx(model=model).run(path, samples)) == 0


def test_a_trained_residual_network(models_directory: Path, data_directory: Path, tmp_path: Path) -> None:
    one = resnet20(models_directory, data_directory)
    assert len(one.expected.levels) == 19
    for exporter in map(Onnx, MODELS):
        assert differences(one.expected, exporter.run(write(exporter, one, tmp_path / "net.onnx"), one.samples)) == 0


def test_logits_of_a_readout_that_excludes_steps(tmp_path: Path) -> None:
    """In the excluded steps too, which have logits of their own."""
    one = network("excluded steps")
    path = write(Onnx(), one, tmp_path / "net.onnx")
    assert one.snn is not None and one.x is not None and 0 < one.whole.readout.start < 11
    (entrance,) = one.samples.entering.values()
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    logits = session.run(["logits"], {name: entrance.astype(np.int32), "timesteps": np.array(12)})[0]
    assert np.array_equal(logits, one.snn.run(one.x, 12).logits.numpy())


@pytest.mark.parametrize("model", MODELS)
def test_whole_numbers_become_currents_as_in_transpike(model: str, tmp_path: Path) -> None:
    """W · n / 2^shift, ties to even, with weights that need several digits; the file takes n as bytes."""
    weight = np.array([[1, 0], [0, 3], [2**30 + 1, -(2**29)]])
    front = Front("pixels", (2,), 0, 255, Term("first", "pixels", "linear", weight, (2,)), np.array([1, 2, 20]))
    entrance = Entrance("n.current", (3,), "charge", -(2**18), 2**19, np.ones(3), front)
    neurons = Layer(
        "n", "integrate", (3,), 0, np.ones(3), currents=("n.current",), threshold=np.array([60, 90, 100000]),
        bound=np.array(2**24),
    )  # fmt: skip
    term = Term("fc", "n", "linear", np.array([[1, 2, 4]]), (3,))
    whole = Whole((entrance,), (neurons, Layer("out", "readout", (1,), 0, np.array(1.0), (term,))), 6)
    raw = {"pixels": np.array([[n, 255 - n] for n in range(256)])}
    charge = charge_of(front, raw["pixels"])
    assert charge[1, 0] == 0 and charge[3, 0] == 2  # ½ and 1½
    samples = Samples({"n.current": charge}, 6, raw)
    path, expected = tmp_path / "net.onnx", run_whole(whole, samples)
    Onnx(model=model).write(whole, path, samples, expected)
    found = Onnx(model=model).run(path, samples)
    assert differences(expected, found) == 0 and found.potentials.keys() == {"n"}
    types = {one.name: one.type for one in onnxruntime.InferenceSession(path).get_inputs()}
    assert types["pixels"] == "tensor(uint8)" and "n_current" not in types
    wide = replace(front, high=2**23)
    with pytest.raises(UnsupportedModel, match="first: 2 inputs of up to 8388608 levels"):
        Onnx().refuse(replace(whole, entrances=(replace(entrance, front=wide),)))


def test_a_longer_run_of_the_loop_is_that_of_transpike(tmp_path: Path) -> None:
    """T is an input of the file: exported for 8 steps and run for 24, the same network gives the same spikes."""
    data = ts.data.load("digits")
    snn = ts.convert(stored("residual"), ts.recipes.ECC(timesteps=24), data.train.images[:100])
    longer = whole_form(snn.program, 24)
    samples, expected = trains_of(snn, longer, data.test.images[:4], 24)
    ts.export(snn, tmp_path / "net.onnx", samples=data.test.images[:4], timesteps=8)
    about = {one.key: one.value for one in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert about["transpike.timesteps"] == "8"
    assert differences(expected, Onnx().run(tmp_path / "net.onnx", samples)) == 0


@pytest.mark.parametrize("model", MODELS)
def test_batches_and_shorter_runs(model: str, tmp_path: Path) -> None:
    one, exporter = network("frames"), Onnx(model=model)
    path = write(exporter, one, tmp_path / "net.onnx")
    entering = {name: values[:5, 2:3] for name, values in one.samples.entering.items()}
    expected = Trains({name: train[:5, 2:3] for name, train in one.expected.levels.items()}, one.expected.totals[2:3])
    found = exporter.run(path, Samples(entering, 5))
    assert found.potentials.keys() == one.expected.potentials.keys()
    assert differences(replace(expected, totals=found.totals, potentials=found.potentials), found) == 0


# faults


def graphs(graph: "onnx.GraphProto") -> Iterator["onnx.GraphProto"]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def nodes(model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    return [node for graph in graphs(model.graph) for node in graph.node]


def at(model: "onnx.ModelProto", output: str) -> "onnx.NodeProto":
    return next(node for node in nodes(model) if node.output[0] in (output, f"{output}_inside"))


def comparison(model: "onnx.ModelProto") -> None:
    for node in nodes(model):
        if node.op_type == "GreaterOrEqual":
            node.op_type = "Greater"


def reset(model: "onnx.ModelProto") -> None:
    """To zero, instead of subtracting the threshold."""
    for node in nodes(model):
        if node.output[0].endswith("_taken"):
            node.input[1] = at(model, node.output[0].replace("_taken", "_fires")).input[0]


def initial(model: "onnx.ModelProto") -> None:
    for tensor in model.graph.initializer:
        if tensor.name.startswith("v_") and not tensor.name.endswith(("_sizes", "_shape")):
            tensor.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(tensor), tensor.name))


def weight(model: "onnx.ModelProto") -> None:
    """One weight of a convolution is larger by one grid step, which need not change a spike."""
    for tensor in model.graph.initializer:
        if tensor.name == "conv3_weight":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.flat[values.size // 2] += 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def pooling(model: "onnx.ModelProto") -> None:
    """The largest spike of this step, instead of the growth of the largest count: two units that tie send both."""
    for node in nodes(model):
        if node.op_type == "MaxPool":
            kept = node.input[0].endswith("_next")
            node.input[0] = "relu_1_levels" if kept else "nothing"
        if node.op_type == "Sub" and "maximum" in node.input[1]:
            node.op_type = "Identity"
            del node.input[1]
    for graph in graphs(model.graph):
        for node in [one for one in graph.node if one.op_type == "MaxPool" and one.input[0] == "nothing"]:
            graph.node.remove(node)


def residual(model: "onnx.ModelProto") -> None:
    """The charge of the shortcut of relu_1 is dropped."""
    node = next(one for one in nodes(model) if one.op_type == "Add" and one.output[0].startswith("relu_1_charge"))
    node.op_type = "Identity"
    del node.input[0]


FAULTS: tuple[Callable, ...] = (comparison, reset, initial, weight, pooling, residual)


def damage(path: Path, fault: Callable) -> None:
    model = onnx.load(path)
    before = model.SerializeToString()
    fault(model)
    assert model.SerializeToString() != before
    onnx.save(model, path)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_file_changes_what_it_gives(model: str, fault: Callable, tmp_path: Path) -> None:
    one, exporter = network("demo"), Onnx(model=model)
    path = write(exporter, one, tmp_path / "net.onnx")
    damage(path, fault)
    assert differences(one.expected, exporter.run(path, one.samples)) > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_file_fails_the_export(fault: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, good = network("demo"), Onnx.write

    def spoiled(self: Onnx, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        good(self, whole, path, samples, expected)
        damage(path, fault)

    monkeypatch.setattr(Onnx, "write", spoiled)
    with pytest.raises(GateFailed, match=r"onnx differs from transpike in|although all spikes are equal") as error:
        ts.export(one.snn, tmp_path / "net.onnx", samples=one.x, timesteps=16)
    assert error.value.exit_code == 4
    assert not list(tmp_path.iterdir())


def test_a_runtime_that_rounds_when_it_optimises_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, levels, made = network("counts"), onnxruntime.GraphOptimizationLevel, onnxruntime.InferenceSession
    good, bad = write(Onnx(), one, tmp_path / "good.onnx"), write(Onnx(), one, tmp_path / "bad.onnx")
    damage(bad, comparison)

    def session(path: str, options: "onnxruntime.SessionOptions", **settings: object) -> object:
        optimised = options.graph_optimization_level == levels.ORT_ENABLE_ALL
        assert optimised or options.graph_optimization_level == levels.ORT_DISABLE_ALL
        return made(bad if optimised else path, options, **settings)

    assert differences(one.expected, Onnx().run(good, one.samples)) == 0
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(
        GateFailed, match=r"good\.onnx gives other numbers with graph optimisation than without: .* step"
    ):
        Onnx().run(good, one.samples)


def test_the_examples_of_the_page_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = network("frames")
    write(Onnx(), one, tmp_path / "net.onnx")
    write(Onnx(model="step"), one, tmp_path / "step.onnx")
    page = (Path(__file__).resolve().parents[2] / "docs/export.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page.partition("\n## ONNX\n")[2].partition("\n## ")[0], re.DOTALL)
    assert len(examples) == 2 and len(examples[0].splitlines()) <= 5
    monkeypatch.chdir(tmp_path)
    assert one.x is not None and one.snn is not None
    names: dict[str, Any] = {"np": np, "onnxruntime": onnxruntime, "recordings": one.x.numpy()}
    for example in examples:
        exec(example, names)
    logits = one.snn.run(one.x, 12).logits
    assert capsys.readouterr().out.strip() == str(logits[-1].argmax(1).numpy())
    assert np.array_equal(names["logits"], logits.numpy()) and np.array_equal(
        names["found"]["logits"], logits[-1].numpy()
    )
    assert np.array_equal(names["states"]["total"], one.expected.totals)


# what a file says


@pytest.mark.parametrize("model", MODELS)
def test_a_file_describes_its_network(model: str, tmp_path: Path) -> None:
    one = network("pixels")
    path = write(Onnx(model=model), one, tmp_path / "net.onnx")
    texts = {one.key.removeprefix("transpike."): one.value for one in onnx.load(path).metadata_props}
    assert texts["model"] == model and texts["version"] == __version__ and texts["timesteps"] == "20"
    assert texts["network"] == digest(one.whole) and len(texts["network"]) == 64
    tables = json.loads(texts["tensors"])
    assert tables["entrances"]["picture"] == {
        "tensor": "picture", "kind": "values", "low": 0, "high": 255, "unit": 1 / 255
    }  # fmt: skip
    assert tables["layers"]["conv.1"]["levels"] == "s_conv_1" and tables["layers"]["conv.1"]["unit"] == 2.0**-12
    session = onnxruntime.InferenceSession(path)
    assert {one.name: one.type for one in session.get_inputs()}["picture"] == "tensor(uint8)"
    assert {one.name: one.type for one in session.get_outputs()}["s_conv_1"] == "tensor(uint8)"


def test_the_digest_is_of_everything() -> None:
    whole = network("pixels").whole
    first, *others = whole.layers
    changed = [
        replace(whole, timesteps=21),
        replace(whole, layers=(replace(first, reset="zero"), *others)),
        replace(whole, layers=(replace(first, threshold=first.threshold + 1), *others)),
        replace(whole, layers=(replace(first, terms=(replace(first.terms[0], stride=(1, 2)),)), *others)),
        replace(whole, layers=tuple(others)),
    ]
    assert len({digest(whole), *map(digest, changed)}) == 1 + len(changed)
    assert digest(replace(whole, timesteps=20)) == digest(whole)


def test_equal_networks_give_equal_files(tmp_path: Path) -> None:
    one = network("counts")
    a, b = (write(Onnx(), one, tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert a == b


def test_names_are_identifiers_that_occur_once() -> None:
    names = Names(("step",))
    assert [names.new(one) for one in ("step", "a.b", "a/b", "a b", "2", "ä", "")] == [
        "step_2", "a_b", "a_b_2", "a_b_3", "_2", "_", "__2"
    ]  # fmt: skip


# arithmetic


def test_digits_are_the_weight_and_no_sum_is_too_large() -> None:
    weight = np.random.default_rng(0).integers(-(2**40), 2**40, (5, 7, 3, 3))
    weight[0, 0, 0] = -(2**40), 2**40, 0
    term = Term("conv", "x", "conv", weight, (7, 3, 3), None, (1, 1), (0, 0), (1, 1))
    parts = digits(term, 255)
    assert np.array_equal(sum(part * factor for part, factor in parts), weight)
    assert all(reach(replace(term, weight=part), 255) <= FLOAT_LIMIT for part, _ in parts)
    assert 1 < len(parts) < 8
    small = replace(term, weight=np.sign(weight))
    assert digits(small, 255) == [(small.weight, 1)]


def test_the_narrowest_type_holds_both_ends() -> None:
    cases = ((0, 255, np.uint8), (-1, 1, np.int8), (0, 256, np.int16), (-(2**20), 0, np.int32), (0, 2**31, np.int64))
    assert all(narrowest(low, high) == kind for low, high, kind in cases)


def test_potentials_beyond_32_bits_are_64_bits(tmp_path: Path) -> None:
    one = network("pixels")
    path = write(Onnx(model="step"), one, tmp_path / "net.onnx")
    types = {one.name: one.type for one in onnxruntime.InferenceSession(path).get_overridable_initializers()}
    assert types == {"v_conv_1": "tensor(int64)", "c_pool": "tensor(float)", "total": "tensor(int64)"}


# refusals


def _whole(layer: Layer, *, low: int = 0, high: int = 1, timesteps: int = 4) -> Whole:
    entrance = Entrance("x", (4,), "spikes", low, high, np.array(1.0))
    weight = np.ones((2, 4), np.int64)
    term = Term("fc", layer.name, "linear", np.ones((2, layer.shape[-1]), np.int64), layer.shape)
    out = Layer("out", "readout", (*layer.shape[:-1], len(weight)), 0, np.array(1.0), (term,))
    return Whole((entrance,), (layer, out), timesteps)


WIDE = Term("wide", "x", "linear", np.full((2, 4), 2**30), (4,))
POOL = Layer("pool", "maximum", (1, 2), 0, np.ones(1), pool=Window((2,), (2,), (0,)), source="x")


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        (_whole(Layer("n", "integrate", (2,), 0, np.ones(2), (WIDE,)), high=2**24), "wide: 4 inputs .*input levels"),
        (_whole(Layer("n", "integrate", (2,), 0, np.ones(2))), "n receives nothing"),
        (_whole(Layer("n", "integrate", (2,), 0, np.ones(2), (WIDE,), bound=np.array(2**62))), "n: .*64 bits.*fewer"),
        (_whole(POOL, high=2**20, timesteps=17), "pool: counts up to 17,825,792 .*fewer time steps"),
    ],
)  # fmt: skip
def test_what_a_file_cannot_hold_is_refused_by_name(whole: Whole, text: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=text) as error:
        Onnx().refuse(whole)
    assert error.value.exit_code == 3
    with pytest.raises(UnsupportedModel, match=text):
        Onnx().write(whole, tmp_path / "net.onnx", Samples({}, 1), Trains({}, np.zeros(1)))
    assert not list(tmp_path.iterdir())


def test_weights_beyond_the_size_of_a_message_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "MOST_BYTES", 1000)
    with pytest.raises(UnsupportedModel, match=r"bytes of weights do not fit into an ONNX file .*golden or c"):
        write(Onnx(), network("demo"), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_another_model_is_no_setting() -> None:
    with pytest.raises(SettingError, match="model is one of 'loop', 'step', not 'both'"):
        Onnx(model="both")  # type: ignore[arg-type]


def test_values_that_the_file_does_not_take_are_refused(tmp_path: Path) -> None:
    one = network("pixels")
    path = write(Onnx(), one, tmp_path / "net.onnx")
    with pytest.raises(DataError, match=r"picture has values that uint8 cannot represent"):
        Onnx().run(path, replace(one.samples, entering={"picture": one.samples.entering["picture"] + 1}))


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    helper, samples = onnx.helper, Samples({}, 1)
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(FileError, match=r"net\.onnx was not written by this version"):
        Onnx().run(path, samples)
    path.write_bytes(b"no model")
    with pytest.raises(FileError, match=r"net\.onnx cannot be run by onnxruntime"):
        Onnx().run(path, samples)


def test_without_the_libraries_a_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Onnx().missing() == ""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert Onnx().missing() == "onnxruntime is not installed: pip install 'transpike[onnx]'"
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert Onnx().missing() == "onnx and onnxruntime are not installed: pip install 'transpike[onnx]'"
    with pytest.raises(MissingExtra, match=r"pip install 'transpike\[onnx\]'"):
        write(Onnx(), network("counts"), tmp_path / "net.onnx")


def test_the_folder_of_exporters_imports_no_library_of_a_format() -> None:
    code = "import sys, transpike.exporters; print(*{'onnx', 'onnxruntime', 'nir'} & sys.modules.keys())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []
