"""Frozen dataclasses to JSON and named tensors, and back. Nothing is executed; unknown types raise an error."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from transpike.core import registry
from transpike.core.annotated import wrong_fields
from transpike.core.naming import qualified
from transpike.errors import FileError, TranspikeError


def encode(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """``value`` as plain data; tensors go into ``tensors`` under names that begin with ``name``.

    Classes are written under their registry names; an unregistered class is written as ``package:ClassName``, which
    ``decode`` refuses. Raises FileError for anything except frozen dataclasses, tensors and plain data.
    """
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, Tensor):
        free, number = name, 1
        while free in tensors:  # keys of dictionaries may contain dots
            free = f"{name}#{(number := number + 1)}"
        tensors[free] = value.detach().cpu().contiguous().clone()
        return {"tensor": free}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, tensors, f"{name}.{index}") for index, item in enumerate(value)]}
    if isinstance(value, dict):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise FileError(f"{name}: the key {wrong[0]!r} of a dictionary cannot be saved; use text")
        return {"dict": {key: encode(item, tensors, f"{name}.{key}") for key, item in value.items()}}
    if isinstance(value, frozenset) and all(isinstance(item, str) for item in value):
        return {"set": sorted(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: encode(getattr(value, f.name), tensors, f"{name}.{f.name}") for f in dataclasses.fields(value)
        }
        kind = type(value)
        return {"type": registry.file_name(kind) or qualified(kind), "fields": fields}
    raise FileError(
        f"{name}: a {type(value).__name__} cannot be saved; files contain numbers, text, tuples, dictionaries, "
        "tensors and registered dataclasses"
    )


def decode(
    value: Any,
    tensors: dict[str, Tensor],
    unknown: Callable[[str], str] | None = None,
    kinds: Mapping[str, type] | None = None,
) -> Any:
    """The inverse of ``encode``. Only registered classes and ``kinds`` are created, and no name is imported.

    ``unknown`` gives the error message for a class that is not registered. Raises FileError, also for a field of a
    class of transpike that is not of its annotated type.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise FileError("the file contains a list where a tuple is expected")
        return value
    if "tensor" in value:
        if not isinstance(value["tensor"], str) or value["tensor"] not in tensors:
            raise FileError(f"the file has no tensor {value['tensor']!r}")
        return tensors[value["tensor"]]
    if "tuple" in value:
        if not isinstance(value["tuple"], list):
            raise FileError(f"the file contains a {type(value['tuple']).__name__} in place of a tuple")
        return tuple(decode(item, tensors, unknown, kinds) for item in value["tuple"])
    if "dict" in value:
        if not isinstance(value["dict"], dict):
            raise FileError(f"the file contains a {type(value['dict']).__name__} in place of a dictionary")
        return {key: decode(item, tensors, unknown, kinds) for key, item in value["dict"].items()}
    if "set" in value:
        if not isinstance(value["set"], list) or not all(isinstance(item, str) for item in value["set"]):
            raise FileError("the file holds a set of something else than text")
        return frozenset(value["set"])
    name = value.get("type", "")
    kind = (registry.file_class(name) or (kinds or {}).get(name)) if isinstance(name, str) else None
    if kind is None:
        raise FileError((unknown or not_known)(name))
    try:
        fields = {key: decode(field, tensors, unknown, kinds) for key, field in value["fields"].items()}
        if wrong := wrong_fields(kind, fields):
            raise FileError(f"the file's {name} cannot be read: {'; '.join(wrong)}")
        return kind(**(_absent(kind) | fields))
    except (TranspikeError, RecursionError):
        raise
    except Exception as error:  # a class may do anything with values that it does not expect
        raise FileError(f"the file's {name} cannot be read: {error}") from error


def _absent(kind: Any) -> dict[str, Any]:
    """The values of fields that are younger than a file without them, where they differ from the defaults."""
    return {f.name: f.metadata["absent"] for f in dataclasses.fields(kind) if "absent" in f.metadata}


def not_known(name: Any) -> str:
    """The error message for a class that is not registered, if its plug-in is unknown."""
    if isinstance(name, str) and ":" in name:
        return f"{name} is not registered here: put @transpike.register on the class, and import its module first"
    return f"the file contains {name!r}, which this version of transpike does not know"


def classes_in(value: Any) -> set[type]:
    """Every dataclass that ``encode`` would write."""
    if isinstance(value, tuple):
        return set().union(*(classes_in(item) for item in value)) if value else set()
    if isinstance(value, dict):
        return classes_in(tuple(value.values()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {type(value)} | classes_in(tuple(getattr(value, f.name) for f in dataclasses.fields(value)))
    return set()
