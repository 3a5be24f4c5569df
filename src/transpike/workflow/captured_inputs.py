"""The inputs of a captured model: where its call holds them, and which are looked up by whole numbers."""

import dataclasses

from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from transpike.core.graph import Node, PackedInput
from transpike.core.inputs import WHOLE, Inputs, Place, named
from transpike.core.op import Op
from transpike.core.structure import children
from transpike.errors import UnsupportedModel
from transpike.ops.embedding import Embedding


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


def looked_up(nodes: list[Node]) -> list[Node]:
    """The nodes, in which an input of whole numbers that no look-up reads is one of real numbers.

    Raises UnsupportedModel for one that is also used in another way.
    """
    found = []
    for node in nodes:
        if isinstance(node.op, PackedInput) and node.op.whole:
            wires, readers = {node.name}, list[Node]()
            for one in nodes:
                if not wires.isdisjoint(one.inputs):
                    moves = isinstance(one.op, Op) and one.op.role == "wiring" and wires.issuperset(one.inputs)
                    if moves:
                        wires.add(one.name)
                    else:
                        readers.append(one)
            others = [one for one in readers if not isinstance(one.op, Embedding)]
            if others and len(others) < len(readers):
                raise UnsupportedModel(
                    f"the input {node.name} holds whole numbers, which a look-up reads and also {others[0].name} "
                    f"({others[0].op.describe()}): give that what it needs as an input of its own, in real numbers"
                )
            if others:
                node = dataclasses.replace(node, op=dataclasses.replace(node.op, whole=False))
        found.append(node)
    return found
