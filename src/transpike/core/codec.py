"""Frozen dataclasses as JSON and named tensors, and back; nothing is executed, unknown types are refused."""

import dataclasses
from typing import Any

from torch import Tensor

from transpike.errors import FileError, TranspikeError


def encode(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """``value`` as plain data; tensors go into ``tensors`` under names that begin with ``name``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, tensors, f"{name}.{index}") for index, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {key: encode(item, tensors, f"{name}.{key}") for key, item in value.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: encode(getattr(value, f.name), tensors, f"{name}.{f.name}") for f in dataclasses.fields(value)
        }
        return {"type": type(value).__name__, "fields": fields}
    raise TypeError(f"{name}: a {type(value).__name__} cannot be saved")


def decode(value: Any, tensors: dict[str, Tensor], types: dict[str, type]) -> Any:
    """The opposite of ``encode``; only classes listed in ``types`` are built."""
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        if value["tensor"] not in tensors:
            raise FileError(f"the file lacks the tensor {value['tensor']!r}")
        return tensors[value["tensor"]]
    if "tuple" in value:
        return tuple(decode(item, tensors, types) for item in value["tuple"])
    if "dict" in value:
        return {key: decode(item, tensors, types) for key, item in value["dict"].items()}
    kind = types.get(value.get("type", ""))
    if kind is None:
        raise FileError(f"the file holds a {value.get('type')!r}, which this version of transpike does not know")
    try:
        return kind(**{name: decode(field, tensors, types) for name, field in value["fields"].items()})
    except TranspikeError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise FileError(f"the file's {value['type']} cannot be read: {error}") from error
