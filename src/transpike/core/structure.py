"""Several tensors as one: their names and shapes, and the tuples, lists and dictionaries of the model around them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor

from transpike.errors import SettingError

Kind = Literal["tuple", "list", "dict", "record"]


class Record(dict[str, Any]):
    """Answers of a model that returns a named tuple or an output class: ``answer.logits`` or ``answer["logits"]``.

    As in such classes, a number selects by position.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, key: Any) -> Any:
        return tuple(self.values())[key] if isinstance(key, (int, slice)) else super().__getitem__(key)


@dataclass(frozen=True)
class Leaf:
    """The place of tensor number ``place``."""

    place: int


@dataclass(frozen=True, eq=False)
class Fixed:
    """A value that does not depend on the input: a constant tensor, a number, text or None.

    ``per_sample``: the model repeats the tensor, which is stored with a batch of 1, for each sample.
    """

    value: Tensor | int | float | str | None = None
    per_sample: bool = False


@dataclass(frozen=True, eq=False)
class Branch:
    """A tuple, list, dictionary or record (named tuple, output class) with its ``keys`` and what they hold."""

    kind: Kind
    keys: tuple[str | int, ...]
    parts: tuple[Any, ...]


Tree = Leaf | Fixed | Branch


@dataclass(frozen=True, eq=False)
class Structure:
    """Tensors (batch, *shape) in one packed tensor (…, batch, N), one after the other, each in row-major order.

    ``names`` are their paths in the model's own structure, ``tree``: "logits", or "heads.boxes" for a nested one.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    tree: Any = Leaf(0)

    @property
    def sizes(self) -> list[int]:
        """The number of elements of each tensor of one sample."""
        return [prod(shape) for shape in self.shapes]

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """The tensors of ``packed`` (…, N), (…, *shape) each."""
        lead = packed.shape[:-1]
        return tuple(
            part.reshape(*lead, *shape) for part, shape in zip(packed.split(self.sizes, -1), self.shapes, strict=True)
        )

    def named(self, packed: Tensor) -> dict[str, Tensor]:
        """The tensors of ``packed`` by name."""
        return dict(zip(self.names, self.split(packed), strict=True))

    def part(self, packed: Tensor, name: str) -> Tensor:
        """The tensor called ``name``. Raises SettingError for another name."""
        return self.split(packed)[self.place(name)]

    def place(self, name: str | int) -> int:
        """The number of the tensor called ``name``. Raises SettingError for another name."""
        if str(name) not in self.names:
            raise SettingError(f"there is no output named {name!r}; the outputs are {', '.join(map(repr, self.names))}")
        return self.names.index(str(name))

    def filled(self, packed: Tensor) -> Any:
        """The model's own structure with the tensors of ``packed`` (…, batch, N)."""
        values = self.split(packed)

        def grown(tree: Tree) -> Any:
            if isinstance(tree, Leaf):
                return values[tree.place]
            if isinstance(tree, Branch):
                parts = [grown(part) for part in tree.parts]
                if tree.kind in ("tuple", "list"):
                    return tuple(parts) if tree.kind == "tuple" else parts
                items: list[tuple[Any, Any]] = list(zip(tree.keys, parts, strict=True))
                return Record(items) if tree.kind == "record" else dict(items)
            if not isinstance(tree.value, Tensor):
                return tree.value
            value = tree.value.to(packed.device)
            return value.expand(packed.shape[-2], *value.shape[1:]) if tree.per_sample else value.clone()

        return grown(self.tree)


def packed(values: Sequence[Tensor]) -> Tensor:
    """Tensors (batch, *shape) as one, (batch, N)."""
    return torch.cat([value.flatten(1) if value.ndim > 1 else value[:, None] for value in values], 1)


def children(tree: Any) -> tuple[Kind, list[tuple[str | int, Any]]] | None:
    """The kind of a structure that holds values, and the values by key; None for anything else.

    Of an output class or named tuple, which are records, the fields.
    """
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return "record", list(zip(tree._fields, tree, strict=True))
    if isinstance(tree, (list, tuple)):
        return ("list" if isinstance(tree, list) else "tuple"), list(enumerate(tree))
    if isinstance(tree, Mapping):
        kind: Kind = "dict" if type(tree).__module__ in ("builtins", "collections") else "record"
        return kind, list(tree.items())
    if hasattr(tree, "__dataclass_fields__") and not isinstance(tree, type):
        return "record", [(name, getattr(tree, name)) for name in tree.__dataclass_fields__]
    return None


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of every value of a structure in order; dots in the names of nested ones."""
    found = children(tree)
    if found is None:
        yield path, tree
        return
    for key, value in found[1]:
        yield from leaves(value, f"{path}.{key}" if path else str(key))
