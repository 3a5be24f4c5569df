"""Edits of a graph cost what they touch, and give what a graph that is built anew would be."""

import copy
import dataclasses
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import network, small_cnn
from transpike.activations import ReLU
from transpike.core import node as nodes
from transpike.core.graph import Graph, Input, Node
from transpike.errors import SettingError, UnsupportedModel
from transpike.ops import Linear
from transpike.ops.scale import Scale


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the nodes that are run on meta tensors, from now on."""
    names: list[str] = []
    run: Callable[..., tuple[int, ...]] = nodes.shape_on_meta

    def counted(node: Node, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
        names.append(node.name)
        return run(node, inputs)

    monkeypatch.setattr(nodes, "shape_on_meta", counted)
    return names


def linear(inputs: int, outputs: int) -> Linear:
    return Linear(weight=torch.full((outputs, inputs), 0.5))


def chain(layers: int, width: int = 3) -> Graph:
    """input → (scale → relu) · layers → linear"""
    found = [Node("input", Input((width,)))]
    for i in range(layers):
        found.append(Node(f"scale{i}", Scale(weight=torch.tensor(1.0 + i)), (found[-1].name,)))
        found.append(Node(f"relu{i}", ReLU(), (found[-1].name,)))
    return Graph((*found, Node("out", linear(width, 2), (found[-1].name,))))


def shapes(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    return [(node.name, node.shape) for node in graph]


def anew(graph: Graph) -> Graph:
    """The same graph of ops that nobody has seen, with wrong shapes given by hand."""
    return Graph(tuple(dataclasses.replace(node, op=copy.copy(node.op), shape=(99,)) for node in graph))


def test_every_op_is_run_once_when_a_graph_is_built(runs: list[str]) -> None:
    graph = chain(5)
    assert sorted(runs) == sorted(node.name for node in graph.nodes[1:])


@pytest.mark.parametrize("layers", [2, 20])
def test_a_node_that_takes_anothers_place_is_all_that_is_run(layers: int, runs: list[str]) -> None:
    graph = chain(layers)
    runs.clear()
    changed = graph.replaced(dataclasses.replace(graph["scale1"], op=Scale(weight=torch.tensor(7.0))))
    assert runs == ["scale1"]
    assert float(changed["scale1"].op.weight) == 7.0 and float(graph["scale1"].op.weight) == 2.0  # type: ignore[union-attr]
    assert all(changed[node.name] is node for node in graph if node.name != "scale1")
    assert [reader.name for reader in changed.consumers()["scale1"]] == ["relu1"]
    assert changed.consumers()["input"] == [changed["scale0"]] and changed.consumers()["scale0"] == [changed["relu0"]]


def test_a_rewrite_runs_what_it_touches(runs: list[str]) -> None:
    graph = chain(20)
    runs.clear()
    touched = {"scale3", "scale7", "scale8"}
    graph.rewrite(lambda n: dataclasses.replace(n, op=Scale(torch.tensor(2.0))) if n.name in touched else None)
    assert set(runs) == touched and len(runs) == 3


def test_a_node_that_gives_another_shape_is_run_with_its_followers_up_to_where_shapes_are_as_before(
    runs: list[str],
) -> None:
    names = ["input", "wide", "relu", "narrow", "after", "last"]
    ops = [Input((3,)), linear(3, 4), ReLU(), Scale(torch.tensor(2.0)), linear(4, 2), ReLU()]
    graph = Graph(
        tuple(Node(n, op, (names[i - 1],) if i else ()) for i, (n, op) in enumerate(zip(names, ops, strict=True)))
    )
    runs.clear()
    with pytest.raises(ts.errors.UnsupportedModel, match="after"):
        graph.replaced(dataclasses.replace(graph["wide"], op=linear(3, 5)))
    assert runs == ["wide", "relu", "narrow", "after"]
    runs.clear()
    new = {"wide": linear(3, 6), "after": linear(6, 2)}
    changed = graph.rewrite(lambda n: dataclasses.replace(n, op=new[n.name]) if n.name in new else None)
    assert runs == ["wide", "relu", "narrow", "after"]
    assert [node.shape for node in changed] == [(3,), (6,), (6,), (6,), (2,), (2,)]


def test_another_device_or_dtype_changes_no_shape(runs: list[str]) -> None:
    graph = chain(4)
    runs.clear()
    assert shapes(graph.to(dtype=torch.float64)) == shapes(graph) and not runs


def test_shapes_given_by_hand_are_not_believed(runs: list[str]) -> None:
    graph = chain(4)
    runs.clear()
    again = anew(graph)
    assert shapes(again) == shapes(graph) and len(runs) == len(graph.nodes) - 1
    wrong = dataclasses.replace(graph["scale1"], op=graph["scale1"].op, shape=(99,))
    assert graph.replaced(wrong)["scale1"].shape == (3,)
    with pytest.raises(ts.errors.UnsupportedModel, match="does not fit"):
        Graph((Node("input", Input((3,))), Node("out", linear(4, 2), ("input",), shape=(2,))))


def test_weights_are_checked_in_every_edit() -> None:
    graph = chain(2)
    with pytest.raises(ts.errors.SettingError, match="scale1: weight contains NaN"):
        graph.replaced(dataclasses.replace(graph["scale1"], op=Scale(weight=torch.tensor(torch.nan))))


def test_wires_are_checked_in_every_edit() -> None:
    graph = chain(3)
    with pytest.raises(ts.errors.UnsupportedModel, match="scale1 reads relu2"):
        graph.replaced(dataclasses.replace(graph["scale1"], inputs=("relu2",)))
    with pytest.raises(ts.errors.UnsupportedModel, match="one input"):
        graph.replaced(dataclasses.replace(graph["scale1"], op=Input((3,))))
    with pytest.raises(ts.errors.SettingError, match=r"'scale9'.*relu2"):
        graph.replaced(Node("scale9", ReLU(), ("input",)))
    skipped = graph.replaced(dataclasses.replace(graph["scale1"], inputs=("input",)))
    assert [node.name for node in skipped][:2] == ["input", "scale1"]


def test_a_rewrite_that_changes_nothing_gives_the_graph_itself() -> None:
    graph = chain(3)
    assert graph.rewrite(lambda node: None) is graph


def test_what_is_known_of_an_op_goes_with_it() -> None:
    graph = chain(3)
    graph = graph.replaced(dataclasses.replace(graph["scale0"], op=Scale(weight=torch.tensor(9.0))))
    ops = [weakref.ref(node.op) for node in graph]
    known = len(nodes._SHAPES)
    assert all(op() in nodes._SHAPES for op in ops[1:])
    del graph
    gc.collect()
    assert all(op() is None for op in ops) and len(nodes._SHAPES) <= known - (len(ops) - 1)


class Residual(nn.Module):
    """x + relu(W x), ``depth`` times: every sum meets a shortcut."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth))
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return self.last(x)


@pytest.mark.parametrize("recipe", ["ecc", "few-steps", "snn-calibration", "spike-norm", "bsnn"])
def test_a_conversion_runs_each_node_a_number_of_times_that_does_not_grow_with_the_depth(
    recipe: str, runs: list[str]
) -> None:
    calibration = torch.rand(16, 6, generator=torch.Generator().manual_seed(1))
    members = {member.name: member for member in ts.recipes.members}
    counts = []
    for depth in (3, 6, 12):
        runs.clear()
        ts.convert(Residual(depth).eval(), members[recipe](timesteps=8), calibration)
        counts.append(len(runs))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0]), counts


@pytest.mark.parametrize("seed", range(8))
def test_a_graph_that_was_edited_is_the_one_that_is_built_anew(seed: int) -> None:
    case = network(seed)
    for recipe in (ts.recipes.ECC(timesteps=8), ts.recipes.FewSteps(timesteps=8)):
        graph = ts.convert(case.model.eval(), recipe, case.calibration).graph
        assert shapes(graph) == shapes(anew(graph))
        assert {name: [r.name for r in found] for name, found in graph.consumers().items()} == {
            node.name: [other.name for other in graph if node.name in other.inputs] for node in graph
        }


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda n: "nowhere" if n.inputs else None, SettingError, "'nowhere' cannot replace"),
        (lambda n: n.name if n.inputs else None, SettingError, "no other layer has this name"),
        (lambda n: dataclasses.replace(n, name="new") if n.inputs else None, UnsupportedModel, "has readers"),
    ],
    ids=["unknown", "itself", "renamed"],
)
def test_rewrites_that_leave_readers_without_a_layer_are_refused(change, error, words):
    with pytest.raises(error, match=words):
        small_cnn().graph.rewrite(change)
