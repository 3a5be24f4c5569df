"""How a law is asked, and the laws that members of several families share."""

import dataclasses
import json
import typing
from typing import Any

import torch
from torch import Tensor

from transpike.activations import ReLU
from transpike.core import registry
from transpike.core.alphabet import Alphabet
from transpike.core.codec import decode, encode
from transpike.core.op import Shape
from transpike.core.tensor_fields import TensorFields
from transpike.ops import MaxPool

ROUNDING = 1e-12
"""What float64 may lose in a sum, relative to the largest value (of at least 1)."""


class Law:
    """Asks laws of one object: AssertionError with its class, the law and the values where one is broken."""

    def __init__(self, thing: object) -> None:
        self.name = type(thing).__name__

    def __call__(self, law: str, holds: bool, *found: object) -> None:
        if not holds:
            values = "".join(f"\n  {value}" for value in found)
            raise AssertionError(f"{self.name} breaks the law: {law}{values}")

    def close(self, law: str, found: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
        """The largest difference is at most ``tolerance`` times the largest expected value, or that of 1."""
        self(law, found.shape == expected.shape, f"shapes {tuple(found.shape)} and {tuple(expected.shape)}")
        difference = (found.double() - expected.double()).abs()
        allowed = tolerance * max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
        largest = float(difference.max()) if difference.numel() else 0.0
        self(law, largest <= allowed, f"largest difference {largest:.3g}, allowed {allowed:.3g}", found, expected)


def check_member(thing: Any) -> None:
    """A registered frozen dataclass with a docstring, which is found by its name and read back from a file.

    What members of all families keep; for those without a separate check: readouts, schedules, exit scores.
    """
    law, kind = Law(thing), type(thing)
    homes = [one for one in registry.families.values() if one.holds == "classes" and one.takes(kind)]
    law("it derives from the contract of one family", len(homes) == 1, [one.kind for one in homes])
    home = homes[0]
    law("it is a frozen dataclass", dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    # dataclass() writes "Name(field: type, …)" where there is no docstring
    law("it has a docstring", bool(kind.__doc__) and not str(kind.__doc__).startswith(f"{kind.__name__}("))
    law("it is registered: put @transpike.register on the class", kind in home.classes())
    if home.named and isinstance(getattr(kind, "name", None), str):
        law("it is found by its name", home.table.get(kind.name) is kind, kind.name)
    if not isinstance(thing, TensorFields):
        law("it is hashable and equal to its copy", _equal(thing, dataclasses.replace(thing)))
    if home.in_files:
        tensors: dict[str, Tensor] = {}
        text = json.dumps(encode(thing, tensors, "member"))
        law("it comes back from a file", same(decode(json.loads(text), tensors), thing), text)


def _equal(a: object, b: object) -> bool:
    return a == b and hash(a) == hash(b)


def carries_tensors(thing: TensorFields) -> None:
    """Its tensors can be exchanged one for one, and move to another dtype all together."""
    law, tensors = Law(thing), thing.tensors()
    law("with_tensors(tensors()) is the same", same(thing.with_tensors(**tensors), thing))
    halved = thing.with_tensors(**{key: value / 2 for key, value in tensors.items()})
    law("with_tensors() sets each tensor", same(halved.tensors(), {key: value / 2 for key, value in tensors.items()}))
    wide = thing.to(dtype=torch.float64).tensors()
    law("to(dtype) moves every tensor", all(value.dtype == torch.float64 for value in wide.values()), wide)
    law("to(dtype) leaves the original", same(thing.tensors(), tensors))


def random(*shape: int) -> Tensor:
    """Normal values in float64, the same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def same(a: Any, b: Any) -> bool:
    """Equal part by part, tensors bit for bit, those of different dtypes never."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    return type(a) is type(b) and bool(a == b)


def tensors_in(state: Any) -> list[Tensor]:
    """The tensors of a state, however its tuples are nested."""
    if isinstance(state, tuple):
        return [tensor for part in state for tensor in tensors_in(part)]
    return [state] if isinstance(state, Tensor) else []


def outside(alphabet: Alphabet, sent: Tensor) -> list[float]:
    """What a wire may not carry: see ``core.alphabet.Alphabet``."""
    values = sent.unique()
    size, whole = values.abs(), values == values.round()
    if alphabet.kind == "phase":
        whole &= (values == 0) | (torch.frexp(size).mantissa == 0.5)  # powers of two
    most = 1 if alphabet.kind in ("binary", "ternary", "switch") else alphabet.levels
    signed = alphabet.signed or alphabet.kind == "ternary"
    allowed = whole & (size <= most) & (torch.ones_like(whole) if signed else values >= 0)
    return values[~allowed].tolist()


def example(kind: type) -> tuple[Any, tuple[Shape, ...]]:
    """An instance of an op or a cell, and the shapes of its inputs.

    What the classmethod ``example()`` of the class returns, or a class made of its defaults, a ReLU, a pooling and
    thresholds for two features. AssertionError where it needs more.
    """
    if hasattr(kind, "example"):
        return kind.example()
    values = {"Op": ReLU(), "Tensor": torch.tensor([0.5, 1.0]), "MaxPool": MaxPool()}
    hints = typing.get_type_hints(kind)
    wanted = [f for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    names = [getattr(hints[field.name], "__name__", "") for field in wanted]
    if set(names) <= values.keys():
        return kind(**{field.name: values[name] for field, name in zip(wanted, names, strict=True)}), ((2,),)
    raise AssertionError(
        f"{kind.__name__} has fields without default ({', '.join(f.name for f in wanted)}): give it a classmethod "
        "example() that returns an instance and the shapes of its inputs without the batch: (cls(…), ((2,),))"
    )
