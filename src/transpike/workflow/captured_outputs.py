"""The outputs of a captured model: one, or several in a structure."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from transpike.core.call import Layout, Wire
from transpike.core.graph import Graph
from transpike.core.inputs import pack
from transpike.core.structure import Branch, Fixed, Leaf, Structure, children, leaves
from transpike.errors import NotExact, UnsupportedModel
from transpike.ops.pack import structure_of
from transpike.workflow.call import Example


def answers_of(program: ExportedProgram, output: str | int | None) -> tuple[Any, list[fx.Node]]:
    """The structure of the outputs, and the nodes that give them; None and one node where there is one output.

    ``output`` selects one of several. Raises UnsupportedModel for a model without outputs, or without that one.
    """
    results = next(iter(n for n in program.graph.nodes if n.op == "output")).args[0]
    spec = program.call_spec.out_spec
    tree = pytree.tree_unflatten(list(results), spec) if spec is not None else results
    choices = {name: leaf for name, leaf in leaves(tree) if isinstance(leaf, fx.Node)}
    if not choices:
        raise UnsupportedModel("the model returns no tensor: forward must return its output")
    if output is not None and isinstance(tree, fx.Node) is False and str(output) not in choices:
        names = ", ".join(map(repr, choices))
        raise UnsupportedModel(
            f"the model has no output {output!r}; choose one of {names} with output=… (--output-name)"
        )
    if output is not None and str(output) in choices:
        return None, [choices[str(output)]]
    nodes = list(choices.values())
    return (None if len(nodes) == 1 else tree), nodes


def structured(tree: Any, values: dict[fx.Node, Any]) -> tuple[Structure, list[Wire]]:
    """The structure of several outputs, and the wires that are packed.

    What does not depend on the input is part of the structure. Raises UnsupportedModel for what cannot be returned.
    """
    names: list[str] = []
    wires: list[Wire] = []

    def grown(part: Any, path: str) -> Any:
        found = children(part)
        if found is not None:
            kind, items = found
            if wrong := [key for key, _ in items if type(key) not in (str, int)]:
                raise _not_returned(path, f"has the key {wrong[0]!r}, which is neither text nor an integer")
            parts = tuple(grown(value, f"{path}.{key}" if path else str(key)) for key, value in items)
            return Branch(kind, tuple(key for key, _ in items), parts)
        value = values.get(part) if isinstance(part, fx.Node) else part
        if isinstance(value, Wire):
            names.append(path)
            wires.append(value)
            return Leaf(len(wires) - 1)
        if isinstance(value, Tensor):
            size = part.meta["val"].shape[:1]
            return Fixed(value, bool(size) and isinstance(size[0], torch.SymInt) and len(value) == 1)
        if value is None or isinstance(value, (bool, int, float, str)):
            return Fixed(value)
        raise _not_returned(path, f"is {type(value).__name__}, neither a tensor nor a constant")

    grown_tree = grown(tree, "")
    if not wires:
        raise UnsupportedModel("no output of the model depends on its input")
    return Structure(tuple(names), tuple(wire.shape for wire in wires), grown_tree), wires


def check_batch_first(wires: Iterable[Wire]) -> None:
    """Raises UnsupportedModel for an output whose first axis is not the batch alone."""
    for wire in wires:
        if wire.layout != Layout():
            raise UnsupportedModel(
                f"the model returns {wire.name}, whose first axis is not the batch: {wire.layout}. Return it with "
                "the batch first, like y.transpose(0, 1), or view it as (batch, …)"
            )


def _not_returned(path: str, why: str) -> UnsupportedModel:
    return UnsupportedModel(f"the model's output {path} {why}: select other outputs with output=… (--output-name)")


def check(graph: Graph, answer: Any, example: Example, output: str | int | None) -> None:
    """Compare the graph with the model's ``answer``: a view that is changed in place can make them differ."""
    single = (*example.args, *example.kwargs.values())
    with torch.no_grad():
        inputs = single[0] if example.inputs is None else pack(example.inputs, graph.inputs)
        captured = graph.run(inputs)
        if not bool(torch.isfinite(captured).all()):
            graph.check_finite(inputs, "the calibration data")
    structure = structure_of(graph.output.op)
    expected = {name: leaf for name, leaf in leaves(answer) if isinstance(leaf, Tensor)}
    if structure is not None:
        pairs = [(f"output {name!r} of ", part, expected[name]) for name, part in structure.named(captured).items()]
    else:
        chosen = expected.get(str(output)) if output is not None else None
        pairs = [("", captured, next(iter(expected.values())) if chosen is None else chosen)]
    for where, found, wanted in pairs:
        scale = float(wanted.abs().max()) or 1.0
        error = float((found - wanted).abs().max()) / scale if found.shape == wanted.shape else float("inf")
        if not error <= 1e-3:
            raise NotExact(
                f"{where}the captured graph differs from the model by {error:.2g} of its largest output; "
                "if the model changes a view of a tensor in place, use out-of-place operations; if it draws random "
                "numbers, also in evaluation mode (F.dropout without training=self.training), remove them"
            )
