"""The inputs of a captured model: where its call holds them, and which are looked up by integers."""

import dataclasses

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from transpike.core.graph import Node, PackedInput
from transpike.core.inputs import WHOLE, Inputs, Place, named
from transpike.core.op import Op, Synapse
from transpike.core.structure import children
from transpike.errors import UnsupportedModel
from transpike.lowering.truth import is_predicate
from transpike.ops.embedding import Embedding
from transpike.ops.scale import Scale


def places_of(program: ExportedProgram, positional: tuple[str | int, ...]) -> dict[fx.Node, Place]:
    """Placeholder of an input → its place in the call, whose ``positional`` arguments have these names."""
    names = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    args, kwargs = pytree.tree_unflatten(nodes, program.call_spec.in_spec)
    found: dict[fx.Node, Place] = {}

    def collect(value: object, place: Place) -> None:
        inner = children(value)
        for key, part in inner[1] if inner is not None else ():
            collect(part, (*place, key))
        if isinstance(value, fx.Node) and isinstance(value.meta.get("val"), Tensor):
            found[value] = place

    for key, value in (*zip(positional, args, strict=True), *kwargs.items()):
        collect(value, (key,))
    return found


def input_nodes(inputs: Inputs) -> list[Node]:
    """A node for every input, in the order of the packed tensor."""
    nodes, start = [], 0
    for place, value in inputs.values.items():
        op = PackedInput(tuple(value.shape[1:]), start, place, value.dtype in WHOLE)
        nodes.append(Node(named(place), op))
        start += op.size
    return nodes


def looked_up(nodes: list[Node], inputs: Inputs | None) -> list[Node]:
    """The nodes with the kind of each input: integers that a look-up reads, Boolean values, or real numbers.

    Boolean values are bool, or integers of which the example has 0 and 1 only and that no weights read. Comparisons
    may read the integers of a look-up too, for a mask of the places that hold a word.
    Raises UnsupportedModel for integers that are looked up and also used in another way.
    """
    found = []
    for node in nodes:
        if isinstance(node.op, PackedInput) and inputs is not None:
            whole, truth = _kind(node, node.op, inputs.values[node.op.place], _readers(node.name, nodes))
            node = dataclasses.replace(node, op=dataclasses.replace(node.op, whole=whole, truth=truth))
        found.append(node)
    return found


def _kind(node: Node, op: PackedInput, value: Tensor, readers: list[Node]) -> tuple[bool, bool]:
    """Whether an input holds integers that are looked up, and whether Boolean values."""
    others = [one for one in readers if not isinstance(one.op, Embedding)]
    if not op.whole or not others:
        return op.whole, value.dtype == torch.bool
    if len(others) == len(readers):
        weighted = any(isinstance(one.op, Synapse) and not isinstance(one.op, Scale) for one in others)
        return False, not weighted and bool(((value == 0) | (value == 1)).all())
    if misread := [one for one in others if not is_predicate(one.op)]:
        raise UnsupportedModel(
            f"the input {node.name} contains integers that are used as indices and also by {misread[0].name} "
            f"({misread[0].op.describe()}): pass what the latter needs as a separate floating-point input"
        )
    return True, False


def _readers(name: str, nodes: list[Node]) -> list[Node]:
    """The nodes that read an input, also after wiring that only moves it."""
    wires, readers = {name}, list[Node]()
    for one in nodes:
        if not wires.isdisjoint(one.inputs):
            if isinstance(one.op, Op) and one.op.role == "wiring" and wires.issuperset(one.inputs):
                wires.add(one.name)
            else:
                readers.append(one)
    return readers
