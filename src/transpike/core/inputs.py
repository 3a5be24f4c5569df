"""Several inputs of a network: a batch of them, their names, and the packed tensor that runs take."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike.core.graph import Graph, Node, PackedInput
from transpike.core.input_statistics import InputStatistics
from transpike.core.structure import children, packed
from transpike.errors import DataError

Place = tuple[str | int, ...]
WHOLE = (torch.int16, torch.int32, torch.int64)
"""Types of inputs that are looked up; bytes are images."""
LARGEST_WHOLE = 2**24
"""float32, in which inputs enter, holds integers up to it."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch of several inputs by their places in a call of the model, (batch, *shape) each.

    A place is the number or the name of an argument, then the keys within a tuple, list or dictionary. As of a tensor,
    ``len`` is the number of samples, and a slice takes a part of them.
    """

    values: dict[Place, Tensor]

    @classmethod
    def of(cls, given: Any) -> "Inputs":
        """From a tuple or list (arguments in order) or a dictionary (by name), also nested; ``Inputs`` as they are.

        Raises DataError for values that are neither tensors nor arrays, and for another number of samples in one.
        """
        if isinstance(given, Inputs):
            return given
        values: dict[Place, Tensor] = {}

        def collect(value: Any, place: Place) -> None:
            found = children(value)
            if found is not None:
                for key, inner in found[1]:
                    collect(inner, (*place, key))
            elif isinstance(value, (Tensor, np.ndarray)):
                values[place] = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
            elif value is not None:
                raise DataError(f"the input {named(place)} must be a tensor, not a {type(value).__name__}")

        collect(given, ())
        inputs = cls(values)
        if not values or () in values:
            raise DataError("several inputs must be a tuple or a dictionary of tensors (batch, …)")
        lengths = {named(place): len(value) if value.ndim else 0 for place, value in values.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise DataError(f"the inputs have different numbers of samples ({listed}): the first axis is the batch")
        return inputs

    @classmethod
    def joined(cls, parts: Sequence["Inputs"]) -> "Inputs":
        """The samples of all parts, which hold inputs at the same places."""
        return cls({place: torch.cat([part.values[place] for part in parts]) for place in parts[0].values})

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, part: slice | Tensor) -> "Inputs":
        return self.each(lambda value: value[part])

    @property
    def device(self) -> torch.device:
        return next(iter(self.values.values())).device

    def each(self, change: Callable[[Tensor], Tensor]) -> "Inputs":
        """The inputs after ``change`` of every tensor."""
        return Inputs({place: change(value) for place, value in self.values.items()})

    def to(self, device: Any) -> "Inputs":
        return self.each(lambda value: value.to(device))

    def cpu(self) -> "Inputs":
        return self.to("cpu")

    def ordered(self, places: Iterable[Place]) -> "Inputs":
        """The inputs at these places, in this order; a number represents the argument with this number.

        A single structure may be given without the argument that holds it. Raises DataError with the names for others.
        """
        wanted = tuple(places)
        arguments = list(dict.fromkeys(place[0] for place in wanted))
        known = {self._named(place, arguments): value for place, value in self.values.items()}
        if len(arguments) == 1 and not set(known) & set(wanted):
            known = {(arguments[0], *place): value for place, value in self.values.items()}
        missing, more = [p for p in wanted if p not in known], [p for p in known if p not in wanted]
        if missing or more:
            parts = [f"without {', '.join(map(named, missing))}"] if missing else []
            parts += [f"with {', '.join(map(named, more))}"] if more else []
            raise DataError(
                f"the network takes the inputs {', '.join(map(named, wanted))}, but the given ones are "
                f"{' and '.join(parts)}: pass a dictionary with these names, or a tuple in this order"
            )
        return Inputs({place: known[place] for place in wanted})

    @staticmethod
    def _named(place: Place, arguments: list[str | int]) -> Place:
        first = place[0]
        is_number = isinstance(first, int) and first not in arguments and first < len(arguments)
        return (arguments[first], *place[1:]) if is_number else place  # type: ignore[index]


def of_call(inputs: tuple[Any, ...], named: Mapping[str, Any], names: "InputNames | None") -> Any:
    """The inputs of a call in the form that runs take: the only one, or ``Inputs``. Raises DataError for none."""
    if not inputs and not named:
        raise DataError("the network needs its input: snn(x)")
    if len(inputs) + len(named) == 1 and (inputs or names is None):
        return (*inputs, *named.values())[0]
    return Inputs.of({**dict(enumerate(inputs)), **named})


def named(place: Place) -> str:
    """The name of a place: "image", or "batch.image" in a structure."""
    return ".".join(map(str, place))


@dataclass(frozen=True)
class InputNames:
    """The requirements on data for a network with several inputs: their places, and the shapes of samples if known."""

    places: tuple[Place, ...]
    shapes: tuple[tuple[int, ...], ...] | None = None

    @property
    def arguments(self) -> tuple[str | int, ...]:
        """The arguments of the model that hold them."""
        return tuple(dict.fromkeys(place[0] for place in self.places))

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> "InputNames | None":
        """The structure of the inputs of a graph; None for a single input that is not packed."""
        parts = [node.op for node in nodes if isinstance(node.op, PackedInput)]
        return cls(tuple(part.place for part in parts), tuple(part.shape for part in parts)) if parts else None

    def in_batch(self, batch: Mapping) -> bool:
        """Whether a dictionary holds every argument by name."""
        return all(name in batch for name in self.arguments)


def pack(inputs: Inputs, nodes: Iterable[Node]) -> Tensor:
    """The packed tensor (batch, N) in float32 that the graph with these input ``nodes`` takes.

    Raises DataError for other inputs, other shapes, an empty batch, NaN or infinite values, integers that are none
    or that float32 does not hold, and Boolean values other than 0 and 1.
    """
    parts = [(node, node.op) for node in nodes if isinstance(node.op, PackedInput)]
    values = []
    for (node, op), value in zip(parts, inputs.ordered(op.place for _, op in parts).values.values(), strict=True):
        value = value if op.preprocessing is None else op.preprocessing(value)
        if tuple(value.shape[1:]) != op.shape or not value.ndim:
            axes = ", ".join(map(str, ("batch", *op.shape)))
            raise DataError(f"the input {node.name} must have the shape ({axes}), not {tuple(value.shape)}")
        if value.is_complex():
            raise DataError(f"the input {node.name} must contain real numbers")
        if not len(value):
            raise DataError("the batch is empty; pass at least one sample")
        if op.whole:
            _check_whole(node.name, value)
        if op.truth and not bool(((value == 0) | (value == 1)).all()):
            raise DataError(f"the input {node.name} must be Boolean (0 or 1), but contains other values")
        value = value.float()
        if not bool(torch.isfinite(value).all()):
            raise DataError(f"the input {node.name} contains NaN or infinite values, or values beyond float32")
        values.append(value)
    return packed(values)


def unpacked(x: Tensor, nodes: Iterable[Node]) -> Inputs:
    """The inverse of ``pack``, without preprocessing: the ``Inputs`` of a packed tensor (batch, N)."""
    return Inputs({op.place: op.part(x) for node in nodes if isinstance(op := node.op, PackedInput)})


def with_statistics(source: Graph, batches: Iterable[Tensor]) -> Graph:
    """The network whose inputs of real numbers know the statistics of these packed ``batches``."""
    parts = tuple(batches)

    def change(node: Node) -> Node | None:
        if not isinstance(node.op, PackedInput) or node.op.is_static:
            return None
        return replace(node, op=replace(node.op, statistics=InputStatistics.of(map(node.op.part, parts))))

    return source.rewrite(change)


def with_any_input(source: Graph) -> Graph:
    """The network that takes inputs that do not look like those of the calibration."""

    def change(node: Node) -> Node | None:
        op = node.op
        if not isinstance(op, PackedInput) or op.statistics is None:
            return None
        return replace(node, op=replace(op, statistics=replace(op.statistics, any_input=True)))

    return source.rewrite(change)


def _check_whole(name: str, value: Tensor) -> None:
    if value.is_floating_point() and not bool((value == value.round()).all()):
        raise DataError(f"the input {name} must contain integer indices: pass it as int64")
    if value.numel() and int(value.abs().max()) > LARGEST_WHOLE:
        raise DataError(f"the input {name} contains integers beyond 2^24, more than any table of this network has rows")
