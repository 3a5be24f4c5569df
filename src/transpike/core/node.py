"""One layer of a network with its name and its inputs, and the shape of its output."""

import dataclasses
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.input_statistics import InputStatistics
from transpike.core.op import Op, Role, check_finite
from transpike.core.preprocessing import Preprocessing
from transpike.errors import TranspikeError, UnsupportedModel

Shape = tuple[int, ...]

_FINITE: "weakref.WeakSet[Op | Cell]" = weakref.WeakSet()
"""Ops whose tensors have been checked; ops are frozen and compare by identity."""

_SHAPES: "weakref.WeakKeyDictionary[Op | Cell, dict[tuple[Shape, ...], Shape]]" = weakref.WeakKeyDictionary()
"""Op → input shapes → output shape, found by running it. An entry disappears with its op."""


@dataclass(frozen=True, eq=False)
class Input(Op):
    """The network's input; ``shape`` is without the batch."""

    free: ClassVar[tuple[str, ...]] = (*Op.free, "part", "size")
    role: ClassVar[Role] = "wiring"
    shape: tuple[int, ...]

    def run(self, *inputs: Tensor) -> Tensor:
        return self.part(inputs[0])

    def part(self, x: Tensor) -> Tensor:
        """The input (batch, *shape) in what a network takes: x itself, or a part of several packed inputs."""
        return x


@dataclass(frozen=True, eq=False)
class PackedInput(Input):
    """One of several inputs, which enter side by side as one packed tensor (batch, N): elements from ``start`` on.

    ``place`` is its place in a call of the model: the number of a positional argument or the name of a keyword, then
    the keys within a structure. ``whole``: it holds integers, which are looked up. ``truth``: it holds Boolean
    values, 0 and 1, like the mask of the tokens that a sentence has. ``largest`` is its largest |x| on calibration
    data, in units of the encoder's largest value. A converted network has ``preprocessing`` and the ``statistics`` of
    the calibration inputs here, as ``SNN`` has those of a single input.
    """

    start: int = 0
    place: tuple[str | int, ...] = ()
    whole: bool = False
    largest: float = 1.0
    preprocessing: Preprocessing | None = None
    statistics: InputStatistics | None = None
    truth: bool = False

    @property
    def is_static(self) -> bool:
        """True if it is not a signal: integers that are looked up, and Boolean values that select."""
        return self.whole or self.truth

    @property
    def size(self) -> int:
        """The number of its elements in one sample."""
        return prod(self.shape)

    def part(self, x: Tensor) -> Tensor:
        part = x[:, self.start : self.start + self.size].reshape(len(x), *self.shape)
        return part.round().long() if self.whole else part

    def describe(self) -> str:
        return "integers" if self.whole else "Boolean values" if self.truth else "input"


@dataclass(frozen=True, eq=False)
class Node:
    """One layer: ``inputs`` are names of earlier nodes, ``path`` is its module in the source model.

    ``origin`` maps the op's tensor fields to their names in the source model's state_dict. The graph computes
    ``shape`` (without the batch) by running the op on a meta tensor; a shape passed to the constructor is not trusted.
    """

    name: str
    op: Op | Cell
    inputs: tuple[str, ...] = ()
    path: str = ""
    origin: tuple[tuple[str, str], ...] = ()
    shape: tuple[int, ...] = ()

    def keys(self) -> dict[str, str]:
        """Tensor field → its name in ``Graph.parameters``."""
        names = dict(self.origin)
        return {field: names.get(field, f"{self.name}.{field}") for field in self.op.tensors()}


def checked(node: Node, inputs: Sequence[Shape]) -> Node:
    """The node with its computed shape for inputs of these shapes; the node itself if its shape is correct.

    Both checks run once per op; an op that is reused in another graph is not checked again.
    Raises SettingError for NaN or infinite weights, UnsupportedModel if the inputs do not fit.
    """
    if node.op not in _FINITE:
        check_finite(node.path or node.name, **node.op.tensors())
        _FINITE.add(node.op)
    if isinstance(node.op, Input):
        shape = tuple(node.op.shape)
    else:
        known, key = _SHAPES.setdefault(node.op, {}), tuple(inputs)
        if key not in known:
            known[key] = shape_on_meta(node, inputs)
        shape = known[key]
    return node if node.shape == shape else dataclasses.replace(node, shape=shape)


def moved(node: Node, *, device: torch.device | str | None, dtype: torch.dtype | None) -> Node:
    """The node with its tensors on another device or with another dtype; the shape stays the same."""
    op = node.op.to(device=device, dtype=dtype)
    if op is not node.op and node.op in _SHAPES:
        _SHAPES[op] = dict(_SHAPES[node.op])
    return dataclasses.replace(node, op=op)


def shape_on_meta(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Run the node's op on a batch of two meta tensors: the shape of its output, without the batch.

    Raises UnsupportedModel if the inputs do not fit, or if the op mixes the samples of a batch.
    """
    values = [torch.empty((2, *shape), device="meta") for shape in inputs]
    op = node.op.to(device="meta", dtype=torch.float32)
    where = f"{node.name} ({node.path})" if node.path else node.name
    try:
        output = op.step(op.init(*values), *values, t=1)[1] if isinstance(op, Cell) else op.run(*values)
    except TranspikeError:
        raise
    except Exception as error:  # torch raises what its kernels raise: RuntimeError, IndexError, ZeroDivisionError, …
        shapes = list(inputs)
        raise UnsupportedModel(f"{where}: {op.describe()} does not fit inputs of shape {shapes}: {error}") from error
    if output.ndim == 0 or output.shape[0] != 2:
        raise UnsupportedModel(f"{where}: {op.describe()} mixes the samples of a batch; keep the batch as first axis")
    return tuple(output.shape[1:])


def channel_axes(nodes: Iterable[Node]) -> dict[str, int]:
    """Name → the axis of the node's output that holds its features, from 1 on.

    The feature axis of an input is chosen to fit the first layer with weights that reads it: axis 1 if that fits, else
    the last axis, else another one; axis 1 if none fits. If several inputs of a sum or a concatenation disagree, the
    first input with the output's rank decides.
    """
    nodes = tuple(nodes)
    starts: dict[str, int] = {}
    for entrance in (node for node in nodes if not node.inputs):
        rank, behind = len(entrance.shape), {entrance.name}
        for node in nodes:
            if not behind.isdisjoint(node.inputs):
                behind.add(node.name)
        for start in dict.fromkeys((1, max(1, rank), *range(2, rank))):
            starts[entrance.name] = start
            if _followed(nodes, starts, behind)[1]:
                break
        else:
            starts[entrance.name] = 1
    return _followed(nodes, starts, set())[0]


def _followed(nodes: Sequence[Node], starts: Mapping[str, int], behind: set[str]) -> tuple[dict[str, int], bool]:
    """The axes for inputs with features on axis ``starts``, and whether they fit the first weights ``behind`` one."""
    axes: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    suits: bool | None = None
    for node in nodes:
        shapes[node.name] = node.shape
        if not node.inputs:
            axes[node.name] = starts.get(node.name, 1)
            continue
        before = [axes[name] for name in node.inputs]
        entering = [shapes[name] for name in node.inputs]
        if suits is None and node.name in behind and getattr(node.op, "role", "") == "synapse":
            wanted = node.op.declared_axis(len(entering[0]))
            suits = None if wanted is None else wanted == before[0]
        axes[node.name] = node.op.channel_axis_after(before, entering, node.shape)
    return axes, suits is not False
