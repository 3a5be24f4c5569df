"""A network as a frozen tuple of nodes: the one data structure for the ANN and for the SNN."""

import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.op import Op, Role, check_finite
from transpike.core.table import lines
from transpike.errors import SettingError, UnsupportedModel

if TYPE_CHECKING:
    from transpike.core.module import GraphModule

_FINITE: "weakref.WeakSet[Op | Cell]" = weakref.WeakSet()
"""Ops that have been checked: they are frozen and compare by identity."""


@dataclass(frozen=True, eq=False)
class Input(Op):
    """Where the network's input enters; ``shape`` is without the batch."""

    role: ClassVar[Role] = "wiring"
    shape: tuple[int, ...]

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Node:
    """One layer in its place: ``inputs`` are names of earlier nodes, ``path`` is the module it came from.

    ``origin`` maps the op's tensor fields to the names they have in the source model's state_dict; ``shape`` (without
    the batch) is filled in by the graph, which runs the op on a meta tensor.
    """

    name: str
    op: Op | Cell
    inputs: tuple[str, ...] = ()
    path: str = ""
    origin: tuple[tuple[str, str], ...] = ()
    shape: tuple[int, ...] = ()

    def keys(self) -> dict[str, str]:
        """Tensor field → the name under which ``Graph.parameters`` lists it."""
        names = dict(self.origin)
        return {field: names.get(field, f"{self.name}.{field}") for field in self.op.tensors()}


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order: the first is the input, the last is the output. Checked when it is built.

    Raises UnsupportedModel where a node's inputs do not exist or do not fit, SettingError for NaN or infinite weights.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[0].op, Input):
            raise UnsupportedModel("a graph begins with its input")
        shapes: dict[str, tuple[int, ...]] = {}
        nodes = []
        for index, node in enumerate(self.nodes):
            if node.name in shapes:
                raise UnsupportedModel(f"two nodes are called {node.name!r}")
            if index and isinstance(node.op, Input):
                raise UnsupportedModel(f"{node.name}: a network has one input; combine the others before it")
            if missing := [name for name in node.inputs if name not in shapes]:
                raise UnsupportedModel(f"{node.name} reads {', '.join(missing)}, which no earlier node gives")
            if node.op not in _FINITE:  # rewriting keeps most ops as they are
                check_finite(node.path or node.name, **node.op.tensors())
                _FINITE.add(node.op)
            shapes[node.name] = _shape(node, [shapes[name] for name in node.inputs])
            nodes.append(dataclasses.replace(node, shape=shapes[node.name]))
        object.__setattr__(self, "nodes", tuple(nodes))
        read = {name for node in self.nodes for name in node.inputs} | {self.nodes[-1].name}
        if unread := [node.name for node in self.nodes[1:] if node.name not in read]:
            raise UnsupportedModel(f"nothing reads {', '.join(unread)}")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise SettingError(f"no layer is called {name!r}; the layers are {', '.join(n.name for n in self.nodes)}")

    @property
    def input(self) -> Node:
        return self.nodes[0]

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    @property
    def cells(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if isinstance(node.op, Cell))

    def consumers(self) -> dict[str, list[Node]]:
        """Name → the nodes that read it."""
        table: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                table[name].append(node)
        return table

    def replaced(self, new: Node) -> "Graph":
        """The graph with ``new`` in the place of the node of its name."""
        return self.rewrite(lambda node: new if node.name == new.name else None)

    def rewrite(self, change: Callable[[Node], Node | str | None]) -> "Graph":
        """A new graph in which every node is what ``change`` makes of it: a node, None (unchanged), or the name
        of the node that takes its place (the node itself goes).
        """
        renamed: dict[str, str] = {}
        nodes = []
        for node in self.nodes:
            node = dataclasses.replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
            changed = change(node)
            if isinstance(changed, str):
                renamed[node.name] = renamed.get(changed, changed)
            else:
                nodes.append(changed or node)
        return Graph(tuple(_reachable(nodes, renamed.get(self.output.name, self.output.name))))

    def parameters(self) -> dict[str, Tensor]:
        """Every tensor by name, under the source model's own names where they are known; tied ones appear once."""
        return {key: getattr(node.op, field) for node in self.nodes for field, key in node.keys().items()}

    def bind(self, tensors: Mapping[str, Tensor]) -> "Graph":
        """The same graph with other tensors; SettingError for a name it does not have."""
        if unknown := set(tensors) - set(self.parameters()):
            raise SettingError(f"the graph has no tensors called {', '.join(sorted(unknown))}")

        def bound(node: Node) -> Node:
            new = {field: tensors[key] for field, key in node.keys().items() if key in tensors}
            return dataclasses.replace(node, op=node.op.with_tensors(**new)) if new else node

        return Graph(tuple(bound(node) for node in self.nodes))

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Graph":
        """The same graph on another device or of another dtype; itself where it is so already."""
        tensors = [t for n in self.nodes for t in n.op.tensors().values()]
        there = device is None or all(t.device == torch.device(device) for t in tensors)
        if there and (dtype is None or all(t.dtype == dtype for t in tensors if t.is_floating_point())):
            return self
        return Graph(tuple(dataclasses.replace(n, op=n.op.to(device=device, dtype=dtype)) for n in self.nodes))

    def run(
        self, x: Tensor, observe: Callable[[Node, tuple[Tensor, ...], Tensor], Tensor | None] | None = None
    ) -> Tensor:
        """The source network's answer for x (batch, *shape); values are freed as soon as nothing needs them.

        ``observe(node, inputs, output)`` sees every layer and may return what takes the output's place.
        """
        last = {name: node.name for node in self.nodes for name in node.inputs}
        values: dict[str, Tensor] = {}
        for node in self.nodes:
            if isinstance(node.op, Cell):
                raise SettingError(f"{node.name} is a spiking cell; simulate() runs the converted network")
            inputs = tuple(values[name] for name in node.inputs) if node.inputs else (x,)
            output = node.op.run(*inputs)
            if observe is not None and (replaced := observe(node, inputs, output)) is not None:
                output = replaced
            values[node.name] = output
            for name in node.inputs:
                if last[name] == node.name:
                    values.pop(name, None)
        return values[self.output.name]

    def to_module(self) -> "GraphModule":
        """A trainable ``nn.Module`` under the source model's own parameter names."""
        from transpike.core.module import GraphModule  # it builds on this file

        return GraphModule(self)

    def macs(self, node: Node) -> int | None:
        """Multiplications of one sample's pass through this node, of a cell: in one step; None where nobody knows."""
        shapes = {other.name: other.shape for other in self.nodes}
        return node.op.macs(tuple(shapes[name] for name in node.inputs), node.shape)

    def __str__(self) -> str:

        return "\n".join(lines(self))

    def _repr_pretty_(self, printer: "object", cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]


def _shape(node: Node, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
    if isinstance(node.op, Input):
        return tuple(node.op.shape)
    values = [torch.empty((2, *shape), device="meta") for shape in inputs]
    op = node.op.to(device="meta", dtype=torch.float32)
    where = f"{node.name} ({node.path})" if node.path else node.name
    try:
        output = op.step(op.init(*values), *values, t=1)[1] if isinstance(op, Cell) else op.run(*values)
    except (RuntimeError, ValueError, IndexError) as error:
        raise UnsupportedModel(f"{where}: {op.describe()} does not fit inputs of shape {inputs}: {error}") from error
    if output.ndim == 0 or output.shape[0] != 2:
        raise UnsupportedModel(f"{where}: {op.describe()} mixes the samples of a batch; keep the batch as first axis")
    return tuple(output.shape[1:])


def _reachable(nodes: Iterable[Node], output: str) -> list[Node]:
    """The nodes from which the output can be reached, output last; the input always stays."""
    table = {node.name: node for node in nodes}
    wanted, stack = {output}, [output]
    while stack:
        for name in table[stack.pop()].inputs:
            if name not in wanted:
                wanted.add(name)
                stack.append(name)
    first = next(iter(table))
    return [node for name, node in table.items() if name in wanted or name == first]
