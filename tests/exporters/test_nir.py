"""NIR files: what is written is read back from the file alone, spike for spike; every fault is found, or refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nir_networks import Case, averaged, beats, case, digits, joined, recipe, residual, stated, strided, with_trains
from torch import nn

import transpike as ts
from stored import stored
from transpike.errors import FileError, GateFailed, UnsupportedModel
from transpike.exporters import Nir
from transpike.exporters.nir_file.graph import GraphWriter
from transpike.exporters.nir_file.interpreter import read, run
from transpike.lowering.whole import Term, Whole
from transpike.testing.faults import FAULTS as FAULTS_OF_WRITERS

nir = pytest.importorskip("nir", reason="nir is not installed: pip install 'transpike[nir]'")

CASES: dict[str, Callable[[str], Case]] = {
    "average pooling": lambda reset: digits(averaged, reset),
    "residual": lambda reset: digits(residual, reset),
    "strided shortcut": lambda reset: digits(strided, reset),
    "one axis": beats,
    "chosen": lambda reset: stated(reset="subtract" if reset == "soft" else "zero", threshold=20),
    "two ways into the output": lambda reset: joined("subtract" if reset == "soft" else "zero"),
    "chosen, with v(0)": lambda reset: stated(9, "subtract" if reset == "soft" else "zero"),
}


def written(one: Case, path: Path, **settings: Any) -> Path:
    Nir(**{"profile": one.profile, **settings}).write(one.whole, path, one.samples, one.expected)
    return path


def different(one: Case, path: Path, *, strict: bool = True) -> int:
    """Spikes, last potentials and totals that differ from transpike's; 1 if they are no integers."""
    try:
        found = run(read(path), one.samples, strict=strict)
    except GateFailed:
        return 1
    assert found.levels.keys() == one.expected.levels.keys()
    spikes = sum(int((found.levels[name] != train).sum()) for name, train in one.expected.levels.items())
    ends = sum(int((found.potentials[name] != end).sum()) for name, end in one.expected.potentials.items())
    return spikes + ends + int((found.totals != one.expected.totals).sum())


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("name", CASES)
def test_a_file_gives_every_spike_and_total_back(name: str, reset: str, tmp_path: Path) -> None:
    one = CASES[name](reset)
    path = written(one, tmp_path / "net.nir")
    assert different(one, path) == 0
    assert different(one, path, strict=False) == 0  # no potential ever equals a threshold
    found = Nir(profile=one.profile).run(path, one.samples)
    assert np.array_equal(found.totals, one.expected.totals)


@pytest.mark.parametrize("name", ["one axis", "average pooling"])
def test_all_settings_give_the_same_spikes(name: str, tmp_path: Path) -> None:
    one = CASES[name]("hard")
    for settings in ({"neuron": "IF"}, {"importer": "snntorch"}, {"precision": "float64"}):
        assert different(one, written(one, tmp_path / "net.nir", **settings)) == 0, settings


def test_a_file_has_only_nodes_that_importers_agree_about(tmp_path: Path) -> None:
    for name, one in ((name, build("soft")) for name, build in CASES.items()):
        graph = nir.read(written(one, tmp_path / "net.nir"))
        kinds = {type(node).__name__ for node in graph.nodes.values()}
        assert kinds <= {"Input", "Conv1d", "Conv2d", "Affine", "CubaLIF", "Output"}, name
        assert all(node.replace("_", "").isalnum() and not hasattr(nn.ModuleDict, node) for node in graph.nodes)
        weights = [node for node in graph.nodes.values() if hasattr(node, "weight")]
        for node in weights:  # what float32 importers read is what was written
            assert np.array_equal(node.weight.astype(np.float32), node.weight)
            assert getattr(node, "groups", 1) == 1
        sources = [(a, b) for a, b in graph.edges if hasattr(graph.nodes[a], "weight")]
        assert len({a for a, _ in sources}) == len(sources)


def test_one_axis_is_written_as_two_for_importers_without_conv1d(tmp_path: Path) -> None:
    one = beats("hard")
    kinds = [
        {type(node).__name__ for node in nir.read(written(one, tmp_path / "net.nir", **settings)).nodes.values()}
        for settings in ({}, {"importer": "norse"})
    ]
    assert "Conv1d" in kinds[0] and "Conv2d" not in kinds[0]
    assert "Conv2d" in kinds[1] and "Conv1d" not in kinds[1]


def test_the_metadata_say_everything_that_nodes_cannot(tmp_path: Path) -> None:
    one = stated(9)
    about = json.loads(nir.read(written(one, tmp_path / "net.nir")).metadata["transpike"])
    assert about["reset"] == "subtract" and about["timesteps"] == 16 and about["pulse"] and len(about["sha256"]) == 64
    first, second, readout = about["layers"]
    assert first["name"] == "first.relu" and first["node"] == "first_relu"
    assert first["unit_exponents"] == [-6] * 3 and second["initial"] == [9] * 3 and second["threshold"] == [20] * 3
    assert readout["unit_exponent"] == -4
    assert about["weights"]["second_from_first_relu"]["terms"] == ["b", "c"]
    assert about["input"]["kind"] == "values" and about["input"]["high"] == 255
    other = dataclasses.replace(one.whole.layers[1], bias=np.array([2]))
    changed = dataclasses.replace(one.whole, layers=(one.whole.layers[0], other, one.whole.layers[2]))
    again = json.loads(nir.read(written(with_trains(changed, one.samples), tmp_path / "b.nir")).metadata["transpike"])
    assert again["sha256"] != about["sha256"]


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    one = stated(9)
    assert written(one, tmp_path / "a.nir").read_bytes() == written(one, tmp_path / "b.nir").read_bytes()


# Faults: each is planted in a written file, and the run has to show it.


def _comparison(graph: Any, about: dict) -> None:
    for node in graph.nodes.values():
        if isinstance(node, nir.CubaLIF):  # back onto the grid
            node.v_threshold = np.round(node.v_threshold * 16) / 16


def _reset(graph: Any, about: dict) -> None:
    about["reset"] = {"zero": "subtract", "subtract": "zero"}[about["reset"]]


def _initial(graph: Any, about: dict) -> None:
    name = next(name for name, of in about["weights"].items() if of["layer"] == about["layers"][1]["name"])
    graph.nodes[name].weight[:-1, -1] = 0.0


def _weight(graph: Any, about: dict) -> None:
    name, step = _second(about)
    graph.nodes[name].weight[1, 0, 1, 1] += step


def _bias(graph: Any, about: dict) -> None:
    name, step = _second(about)
    graph.nodes[name].bias[1] += step


def _second(about: dict) -> tuple[str, float]:
    """The weights of the second layer, and what 1 is there."""
    layer = about["layers"][1]
    name = next(name for name, of in about["weights"].items() if of["layer"] == layer["name"])
    return name, 2.0 ** layer["grid_exponents"][1]


def _edge(graph: Any, about: dict) -> None:
    several = next(name for name in graph.nodes if sum(b == name for _, b in graph.edges) > 1)
    graph.edges.remove(next(edge for edge in graph.edges if edge[1] == several))


FAULTS = {
    "comparison": (_comparison, lambda: stated(0, "zero")),
    "reset": (_reset, lambda: stated(9)),
    "hard reset": (_reset, lambda: stated(0, "zero")),
    "v(0)": (_initial, lambda: stated(9)),
    "one weight": (_weight, lambda: stated(9)),
    "one bias": (_bias, lambda: stated(9)),
    "a residual": (_edge, lambda: digits(residual, "soft")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found(name: str, tmp_path: Path) -> None:
    plant, build = FAULTS[name]
    one = build()
    path = written(one, tmp_path / "net.nir")
    assert different(one, path) == 0
    graph = nir.read(path)
    about = json.loads(graph.metadata["transpike"])
    plant(graph, about)
    graph.metadata["transpike"] = json.dumps(about)
    nir.write(path, graph)
    assert different(one, path) > 0


@pytest.mark.parametrize("name", FAULTS_OF_WRITERS)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_writer_with_a_fault_is_found(name: str, reset: str, tmp_path: Path) -> None:
    one = stated(9, reset)
    changed = FAULTS_OF_WRITERS[name](one.whole)
    if changed is None:
        assert name == "pooling window"
    elif name == "reset":  # a file has one reset
        with pytest.raises(UnsupportedModel, match=r"first.relu has a"):
            written(dataclasses.replace(one, whole=changed), tmp_path / "net.nir", profile=one.profile)
    else:
        assert different(one, written(dataclasses.replace(one, whole=changed), tmp_path / "net.nir")) > 0


def test_the_laws_of_exporters_hold() -> None:
    ts.testing.check_exporter(Nir(), only=["average"])
    ts.testing.check_exporter(Nir(profile="hard"), only=["hard reset"])


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_an_export_is_verified_and_one_with_a_fault_is_not_written(
    reset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = ts.data.load("digits"), tmp_path / "net.nir"
    snn = ts.convert(averaged(), recipe(reset), data.train.images[:200], preprocessing=data.preprocessing)
    result = ts.export(snn, path, samples=data.test.images[:3], profile=reset)
    assert result.verified and result.format == "nir" and result.spikes > 1000 and path.exists()
    graph = GraphWriter.graph

    def faulty(writer: GraphWriter) -> Any:
        found = graph(writer)
        next(node for name, node in found.nodes.items() if name.startswith("conv3")).weight[0] += 2.0**-8
        return found

    monkeypatch.setattr(GraphWriter, "graph", faulty)
    with pytest.raises(GateFailed, match=r"nir differs from transpike in .* first in layer") as error:
        ts.export(snn, tmp_path / "other.nir", samples=data.test.images[:3], profile=reset)
    assert error.value.exit_code == 4 and not (tmp_path / "other.nir").exists()


def test_a_file_of_someone_else_is_no_file_of_ours(tmp_path: Path) -> None:
    graph = nir.NIRGraph.from_list(nir.Affine(np.ones((2, 2)), np.ones(2)))
    nir.write(tmp_path / "other.nir", graph)
    (tmp_path / "text.nir").write_text("no NIR")
    for name in ("other.nir", "text.nir", "none.nir"):
        with pytest.raises(FileError, match=name):
            Nir().run(tmp_path / name, stated().samples)


# Refusals


def refused(whole: Whole, match: str, **settings: Any) -> None:
    with pytest.raises(UnsupportedModel, match=match):
        Nir(**settings).refuse(whole)


def with_layer(one: Case, place: int, **changes: Any) -> Whole:
    layers = list(one.whole.layers)
    layers[place] = dataclasses.replace(layers[place], **changes)
    return dataclasses.replace(one.whole, layers=tuple(layers))


def test_max_pooling_is_refused_with_what_to_train_instead(tmp_path: Path) -> None:
    data = ts.data.load("digits")
    snn = ts.convert(stored("small-cnn"), recipe("soft"), data.train.images[:200], preprocessing=data.preprocessing)
    one = case(snn, data.test.images[:2])
    with pytest.raises(UnsupportedModel, match=r"pool.* train the network with average pooling") as error:
        written(one, tmp_path / "net.nir")
    assert error.value.exit_code == 3 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("linear-ttfs", "first-spike networks.*export to c or golden"),
        ("tsc", "switch.*has no integer form"),
        (
            "sigma-delta",
            "2 sends levels other .*which nir does not support.*such as ecc, or export to golden, onnx or c",
        ),
        ("bsnn", "PhaseCycles.*only streaming, windows"),
        ("burst", "2 sends levels other .*which nir does not support"),
        ("h-mt", "2 sends levels other .*which nir does not support"),
        ("snm", "2 sends levels other .*which nir does not support"),
    ],
)
def test_other_neurons_and_schedules_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    data = ts.data.load("digits")
    method = ts.recipes.table[name](timesteps=8)
    snn = ts.convert(stored("fully-connected"), method, data.train.images[:50], preprocessing=data.preprocessing)
    with pytest.raises(UnsupportedModel, match=reason) as error:
        ts.export(snn, tmp_path / "net.nir", samples=data.test.images[:2])
    assert error.value.exit_code == 3 and not list(tmp_path.iterdir())


def test_a_readout_that_excludes_its_first_steps_says_so(tmp_path: Path) -> None:
    data, path = ts.data.load("digits"), tmp_path / "net.nir"
    method = ts.recipes.FewSteps(8)
    snn = ts.convert(stored("fully-connected"), method, data.train.images[:100], preprocessing=data.preprocessing)
    result = ts.export(snn, path, samples=data.test.images[:3])
    about = json.loads(nir.read(path).metadata["transpike"])
    assert result.verified and about["layers"][-1]["start"] > 0


def test_biases_that_differ_from_pixel_to_pixel_are_refused_with_the_way_out(tmp_path: Path) -> None:
    """The mean of the preprocessing, in the first layer's biases, meets the zeros of its padding."""
    data = ts.data.load("digits")
    snn = ts.convert(
        stored("three-neuron-layers"), recipe("soft"), data.train.images[:100], preprocessing=data.preprocessing,
        input_bits=8,
    )  # fmt: skip
    with pytest.raises(UnsupportedModel, match=r"2: the bias differs within a channel.*convert without input_bits"):
        ts.export(snn, tmp_path / "net.nir", samples=data.test.images[:3])


def test_spikes_enter_as_spikes(tmp_path: Path) -> None:
    data = ts.data.load("digits")
    for encoder in (ts.encoders.Poisson(), ts.encoders.DeterministicCounts()):
        snn = ts.convert(
            stored("three-neuron-layers"), recipe("soft", encoder=encoder), data.train.images[:100],
            preprocessing=data.preprocessing,
        )  # fmt: skip
        one = case(snn, data.test.images[:3])
        assert one.whole.entrances[0].kind == "spikes"
        assert different(one, written(one, tmp_path / "net.nir")) == 0


def test_a_reset_of_the_other_profile_is_refused() -> None:
    refused(stated().whole, "first.relu has a soft reset.*use profile='soft'", profile="hard")
    refused(stated(0, "zero").whole, "first.relu has a hard reset.*use profile='hard'", profile="soft")


def test_several_inputs_are_refused() -> None:
    one = stated()
    second = dataclasses.replace(one.whole.entrances[0], name="second")
    refused(dataclasses.replace(one.whole, entrances=(*one.whole.entrances, second)), "one input, the network 2")


def test_three_axes_of_space_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="NIR convolutions have one or two axes"):
        Nir().refuse(stated(shape=(2, 4, 4, 4)).whole)


@pytest.mark.parametrize("what", ["threshold", "bias", "initial"])
def test_values_that_differ_within_a_channel_are_refused(what: str) -> None:
    values = np.arange(36).reshape(1, 6, 6) + 20
    refused(with_layer(stated(), 1, **{what: values}), f"second: the {what}.* differs within a channel")


def test_thresholds_of_zero_are_refused() -> None:
    refused(with_layer(stated(), 1, threshold=np.array([0])), "second has neurons with a threshold of 0")


def test_a_readout_that_starts_with_charge_is_refused() -> None:
    refused(with_layer(stated(), 2, initial=np.array([1])), "logits starts with charge")


def test_a_layer_that_nothing_enters_is_refused() -> None:
    refused(with_layer(stated(), 1, terms=()), "nothing but its bias enters second")


def test_values_that_need_more_bits_than_the_importer_adds_are_refused() -> None:
    one = stated()
    terms = tuple(dataclasses.replace(term, weight=term.weight * 2**17) for term in one.whole.layers[1].terms)
    wide = with_layer(one, 1, terms=terms, threshold=one.whole.layers[1].threshold * 2**17)
    refused(wide, "the sums of second need 2[5-9] bits.*precision='float64'")
    Nir(precision="float64").refuse(wide)
    wider = tuple(dataclasses.replace(term, weight=term.weight * 2**50) for term in one.whole.layers[1].terms)
    refused(with_layer(one, 1, terms=wider), "the sums of second need 5[4-9] bits", precision="float64")


def test_potentials_that_grow_out_of_the_importers_numbers_are_found(tmp_path: Path) -> None:
    one = stated(shape=(3, 4, 4))
    first = one.whole.layers[0]
    terms = tuple(dataclasses.replace(term, weight=term.weight * 2**8) for term in first.terms)
    wide = with_layer(one, 0, terms=terms, threshold=first.threshold * 2**8, bias=np.array([-(2**21)]))
    path = tmp_path / "net.nir"
    expected = one.expected
    Nir().write(wide, path, one.samples, expected)
    with pytest.raises(UnsupportedModel, match=r"potentials of first.relu reach .*precision='float64'"):
        Nir().run(path, one.samples)
    Nir(precision="float64").write(wide, path, one.samples, expected)
    Nir().run(path, one.samples)


def test_what_an_importer_changes_is_refused_by_its_name() -> None:
    several = digits(residual, "soft").whole
    refused(several, r"3.relu adds charge from .*Norse 1.1.0 drops all of them except one", importer="norse")
    refused(several, r"soft reset.*snnTorch 1.0.0 subtracts it a step late", importer="snntorch")
    Nir(importer="spikingjelly").refuse(several)
    Nir(importer="snntorch", profile="hard").refuse(digits(residual, "hard").whole)
    Nir(importer="norse").refuse(digits(averaged, "soft").whole)


def test_several_thresholds_of_a_layer_are_refused_where_the_importer_has_one() -> None:
    values = np.array([20, 40, 21]).reshape(3, 1, 1)
    refused(with_layer(stated(), 1, threshold=values), "second has several thresholds", importer="spikingjelly")
    Nir(importer="norse").refuse(with_layer(stated(), 1, threshold=values))
    Nir(importer="spikingjelly").refuse(with_layer(stated(), 1, threshold=np.array([20, 40, 80]).reshape(3, 1, 1)))


def test_neurons_that_no_source_lies_under_are_refused(tmp_path: Path) -> None:
    """The pulse that sets v(0) would not reach the neurons at the edges of such a padding."""
    random = np.random.default_rng(1)
    settings = {"stride": (1, 1), "padding": (2, 2), "dilation": (1, 1)}
    one = stated(9, shape=(3, 6, 6))
    term = Term("b", "first.relu", "conv", random.integers(-3, 9, (3, 3, 3, 3)), (3, 6, 6), **settings)
    head = Term("d", "second", "linear", random.integers(-3, 9, (4, 192)), (192,))
    first, second, readout = one.whole.layers
    second = dataclasses.replace(second, shape=(3, 8, 8), terms=(term,))
    whole = dataclasses.replace(one.whole, layers=(first, second, dataclasses.replace(readout, terms=(head,))))
    wide = with_trains(whole, one.samples)
    with pytest.raises(UnsupportedModel, match="second: no source lies under all of its neurons"):
        written(wide, tmp_path / "net.nir")


def test_thresholds_of_several_channels_give_equal_spikes(tmp_path: Path) -> None:
    for reset in ("subtract", "zero"):
        one = stated(0, reset)
        whole = with_layer(one, 1, threshold=np.array([20, 40, 21]).reshape(3, 1, 1))
        other = with_trains(whole, one.samples)
        assert different(other, written(other, tmp_path / "net.nir")) == 0


def test_the_extra_is_named_where_nir_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    one = stated()
    assert Nir().missing() == "pip install 'transpike[nir]'"
    with pytest.raises(ts.errors.MissingExtra, match=r"transpike\[nir\]"):
        Nir().write(one.whole, tmp_path / "net.nir", one.samples, one.expected)
    with pytest.raises(ts.errors.MissingExtra, match=r"transpike\[nir\]"):
        Nir().run(tmp_path / "net.nir", one.samples)
