"""A network as a frozen tuple of nodes: one data structure for the ANN and for the SNN."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.cell import Cell
from transpike.core.finite import at, finite
from transpike.core.node import Input, Node, PackedInput, channel_axes, checked, moved
from transpike.core.op import Op
from transpike.core.table import lines
from transpike.errors import SettingError, UnsupportedModel


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order: the first is the input, the last is the output. Checked on construction.

    Several inputs are ``PackedInput`` nodes, parts of one packed tensor (batch, N); several outputs are packed by the
    last node.

    The cost of an edit depends on the nodes that it changes: an op whose input shapes stay the same is not run on meta
    tensors again. Raises UnsupportedModel if a node's inputs do not exist or do not fit, SettingError for NaN or
    infinite weights.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[0].op, Input):
            raise UnsupportedModel("a graph must begin with its input")
        shapes: dict[str, tuple[int, ...]] = {}
        nodes = []
        for index, node in enumerate(self.nodes):
            if node.name in shapes:
                raise UnsupportedModel(f"two nodes are named {node.name!r}")
            if index and isinstance(node.op, Input) and not isinstance(node.op, PackedInput):
                raise UnsupportedModel(
                    f"{node.name}: a network has one input node; pack several inputs into one PackedInput"
                )
            if missing := [name for name in node.inputs if name not in shapes]:
                raise UnsupportedModel(f"{node.name} reads {', '.join(missing)}, which is not an earlier node")
            nodes.append(checked(node, [shapes[name] for name in node.inputs]))
            shapes[node.name] = nodes[-1].shape
        object.__setattr__(self, "nodes", tuple(nodes))
        _check_parts(self.inputs)
        read = {name for node in self.nodes for name in node.inputs} | {self.nodes[-1].name}
        if unread := [n.name for n in self.nodes if n.name not in read and not isinstance(n.op, Input)]:
            raise UnsupportedModel(f"nothing reads {', '.join(unread)}")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        place = self._places.get(name)
        if place is None:
            raise SettingError(
                f"there is no layer named {name!r}; the layers are {', '.join(n.name for n in self.nodes)}"
            )
        return self.nodes[place]

    @cached_property
    def _places(self) -> dict[str, int]:
        """Name → index in ``nodes``."""
        return {node.name: index for index, node in enumerate(self.nodes)}

    @cached_property
    def readers(self) -> Mapping[str, tuple[str, ...]]:
        """Name → the names of the nodes that read it, in order."""
        table: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                table[name].append(node.name)
        return {name: tuple(found) for name, found in table.items()}

    @property
    def input(self) -> Node:
        """The input, or the first of several."""
        return self.nodes[0]

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The inputs, in the order of the packed tensor."""
        return tuple(node for node in self.nodes if isinstance(node.op, Input))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample as ``run`` takes it: that of the input, or (N,) for several packed ones."""
        last = self.inputs[-1].op
        return (last.start + last.size,) if isinstance(last, PackedInput) else self.input.shape

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    @property
    def cells(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if isinstance(node.op, Cell))

    @cached_property
    def channel_axes(self) -> dict[str, int]:
        """Name → the axis of the node's output that holds its features, the batch being axis 0 (core.channels)."""
        return channel_axes(self.nodes)

    @cached_property
    def static(self) -> frozenset[str]:
        """The nodes that depend on integers and Boolean values only and look nothing up, like a mask of words.

        Under any encoder their values come once and do not change; nothing between them sends spikes.
        """
        found: set[str] = set()
        for node in self.nodes:
            if isinstance(node.op, PackedInput):
                static = node.op.is_static
            else:
                plain = isinstance(node.op, Op) and not isinstance(node.op, Input) and not node.op.is_look_up
                static = plain and bool(node.inputs) and found.issuperset(node.inputs)
            if static:
                found.add(node.name)
        return frozenset(found)

    def consumers(self) -> dict[str, list[Node]]:
        """Name → the nodes that read it."""
        return {name: [self[reader] for reader in readers] for name, readers in self.readers.items()}

    def between(self, root: str, end: str) -> list[Node]:
        """The nodes that ``end`` depends on, and itself, in order, without the wire ``root`` and all before it."""
        wanted, stack = {end}, [end]
        while stack:
            for name in self[stack.pop()].inputs:
                if name != root and name not in wanted:
                    wanted.add(name)
                    stack.append(name)
        return [node for node in self if node.name in wanted]

    def replaced(self, new: Node) -> "Graph":
        """The graph with ``new`` instead of the node of the same name. Raises SettingError if there is none.

        Only the new node, and those after it whose input shapes change, are checked.
        """
        old = self[new.name]
        if new.inputs == old.inputs and not isinstance(new.op, Input) and not isinstance(old.op, Input):
            new = checked(new, [self[name].shape for name in new.inputs])
            if new.shape == old.shape:
                return self._exchanged(new)
        return self.rewrite(lambda node: new if node.name == new.name else None)

    def _exchanged(self, new: Node) -> "Graph":
        """The graph with a checked node that has the inputs and the shape of the old one; the rest is unchanged."""
        place = self._places[new.name]
        graph = object.__new__(type(self))
        object.__setattr__(graph, "nodes", (*self.nodes[:place], new, *self.nodes[place + 1 :]))
        graph.__dict__.update(_places=self._places, readers=self.readers)  # which do not depend on the ops
        return graph

    def rewrite(self, change: Callable[[Node], Node | str | None]) -> "Graph":
        """The graph with every node replaced by the result of ``change``: a node, None (unchanged), or the name of the
        node that takes its place (the node is removed). Returns the graph itself if nothing changes.
        """
        renamed: dict[str, str] = {}
        nodes = []
        for node in self.nodes:
            if not renamed.keys().isdisjoint(node.inputs):
                node = dataclasses.replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
            changed = change(node)
            if isinstance(changed, str):
                if changed not in self._places or changed == node.name:
                    raise SettingError(f"{changed!r} cannot replace {node.name}: no other layer has this name")
                renamed[node.name] = renamed.get(changed, changed)
            else:
                nodes.append(changed or node)
        found = tuple(_reachable(nodes, renamed.get(self.output.name, self.output.name)))
        same = len(found) == len(self.nodes) and all(a is b for a, b in zip(found, self.nodes, strict=True))
        return self if same else Graph(found)

    def parameters(self) -> dict[str, Tensor]:
        """Every tensor by name, under the source model's names if they are known; shared tensors appear once."""
        return {key: node.op.tensors()[field] for node in self.nodes for field, key in node.keys().items()}

    def bind(self, tensors: Mapping[str, Tensor]) -> "Graph":
        """The same graph with other tensors. Raises SettingError for a name that it does not have."""
        if unknown := set(tensors) - set(self.parameters()):
            raise SettingError(f"the graph has no tensors called {', '.join(sorted(unknown))}")

        def bound(node: Node) -> Node:
            new = {field: tensors[key] for field, key in node.keys().items() if key in tensors}
            return dataclasses.replace(node, op=node.op.with_tensors(**new)) if new else node

        return Graph(tuple(bound(node) for node in self.nodes))

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Graph":
        """The same graph on another device or with another dtype; the graph itself if nothing changes."""
        tensors = [t for n in self.nodes for t in n.op.tensors().values()]
        there = device is None or all(t.device == torch.device(device) for t in tensors)
        if there and (dtype is None or all(t.dtype == dtype for t in tensors if t.is_floating_point())):
            return self
        return Graph(tuple(moved(node, device=device, dtype=dtype) for node in self.nodes))

    def run(
        self, x: Tensor, observe: Callable[[Node, tuple[Tensor, ...], Tensor], Tensor | None] | None = None
    ) -> Tensor:
        """The output of the source network for x (batch, *shape). Values are freed after their last use.

        ``observe(node, inputs, output)`` is called for every layer; a tensor that it returns replaces the output.
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

    def check_finite(self, x: Tensor, data: str) -> None:
        """Raises DataError with the first layer whose output for x (batch, *shape), the ``data``, is not finite.

        Where all samples have −inf it counts only if there is nothing else: masks have it before a softmax.
        """
        for masks in (True, False):

            def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor, masks: bool = masks) -> None:
                if node.name in self.static:
                    return  # a mask, which may hold −inf
                with at(f"{node.name}, on {data}"):
                    masked = (output == -torch.inf).all(0) if masks else torch.zeros((), dtype=torch.bool)
                    finite(output.masked_fill(masked.to(output.device), 0.0), node.op)

            self.run(x, observe=see)

    def to_module(self) -> "GraphModule":
        """A trainable ``nn.Module`` under the source model's own parameter names."""
        return GraphModule(self)

    def macs(self, node: Node) -> int | None:
        """Multiplications per sample of this node (of a cell: per step); None if the number is unknown."""
        return node.op.macs(tuple(self[name].shape for name in node.inputs), node.shape)

    def __str__(self) -> str:

        return "\n".join(lines(self))

    def _repr_pretty_(self, printer: "object", cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]


def _check_parts(inputs: tuple[Node, ...]) -> None:
    """Raises UnsupportedModel unless several inputs are parts of one packed tensor, side by side."""
    end = 0
    for node in inputs:
        if isinstance(node.op, PackedInput):
            if node.op.start < end:
                raise UnsupportedModel(f"{node.name} begins within the input before it, at element {node.op.start}")
            end = node.op.start + node.op.size
        elif len(inputs) > 1:
            raise UnsupportedModel(
                f"{node.name}: a network has one input node; pack several inputs into one PackedInput"
            )


def _reachable(nodes: Iterable[Node], output: str) -> list[Node]:
    """The nodes from which the output can be reached, output last; inputs are always kept."""
    table = {node.name: node for node in nodes}
    wanted, stack = {output}, [output]
    while stack:
        reader = stack.pop()
        if reader not in table:
            raise UnsupportedModel(f"the rewritten graph lacks {reader!r}, which is its output or has readers")
        for name in table[reader].inputs:
            if name not in wanted:
                wanted.add(name)
                stack.append(name)
    return [node for name, node in table.items() if name in wanted or isinstance(node.op, Input)]


class _Layers(nn.Module):
    """A module whose attributes and layers may have the same names: attributes that exist are never replaced by layers.

    A layer is reached by ``named_parameters``, ``named_buffers`` and ``state_dict``, under any name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _place(self, key: str, value: Tensor, *, trainable: bool) -> None:
        """Keep a copy of ``value`` under the dotted name ``key``; a name that is taken is a tied tensor."""
        *folders, name = key.split(".")
        owner: nn.Module = self
        for folder in folders:
            owner = owner._modules.setdefault(folder, _Layers())  # type: ignore[assignment]
        if name in owner._parameters or name in owner._buffers:
            return  # shared: the same tensor under the same name
        if trainable:
            owner._parameters[name] = nn.Parameter(value.detach().clone())
        else:
            owner._buffers[name] = value.detach().clone()


class GraphModule(_Layers):
    """Runs a graph of ops; its state_dict has the names of the model that was captured, whatever they are.

    In ``train()`` batch normalisation uses batch statistics and updates its running ones, and dropout drops.
    Attributes of a subclass are given as ``attributes``: set before the layers, they do not collide with them.
    """

    source_graph: Graph

    def __init__(self, graph: Graph, **attributes: Any) -> None:
        super().__init__()
        self.__dict__.update(attributes, source_graph=graph)
        for node in graph:
            for field, key in node.keys().items():
                self._place(key, node.op.tensors()[field], trainable=field not in getattr(node.op, "buffers", ()))

    def tensors(self) -> dict[str, Tensor]:
        """Name → the current tensor, parameters and buffers."""
        return {**dict(self.named_parameters(remove_duplicate=False)), **dict(self.named_buffers())}

    def bound(self, node: Node, live: dict[str, Tensor]) -> Op:
        """The node's op with the current tensors."""
        return node.op.with_tensors(**{field: live[key] for field, key in node.keys().items()})  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        live = self.tensors()
        values: dict[str, Tensor] = {}
        for node in self.source_graph:
            op = self.bound(node, live)
            inputs = [values[name] for name in node.inputs] or [x]
            values[node.name] = op.train_run(*inputs) if self.training else op.run(*inputs)
        return values[self.source_graph.output.name]

    def to_graph(self) -> Graph:
        """The graph with the current weights."""
        return self.source_graph.bind({name: value.detach() for name, value in self.tensors().items()})
