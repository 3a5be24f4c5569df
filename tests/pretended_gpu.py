"""A pretended GPU: tensors that say they lie on another device are kept on the CPU, but may not meet its tensors.

``with pretended_gpu(): x.to(GPU)``. What fails on a GPU because a tensor was left on the CPU fails here as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("lazy", 0)  # a kind of device of which torch asks no driver
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)  # positions may lie on the CPU


class OnGpu(Tensor):
    """``kept``: the numbers, on the CPU."""

    kept: Tensor

    @staticmethod
    def __new__(cls, kept: Tensor) -> "OnGpu":
        found = Tensor._make_wrapper_subclass(
            cls, kept.shape, strides=kept.stride(), storage_offset=kept.storage_offset(), dtype=kept.dtype, device=GPU
        )
        found.kept = kept
        return found

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} outside of pretended_gpu()")


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        ours = [value for value in given if isinstance(value, OnGpu)]
        asked = kwargs.get("device")
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        to_gpu = bool(ours) if asked is None else torch.device(asked).type == GPU.type
        left = [value for value in given if not isinstance(value, OnGpu) and value.ndim]
        if ours and left and function not in (*MOVES, *INDEXED):
            raise RuntimeError(f"{function}: a tensor {tuple(left[0].shape)} lies on the CPU, another one on the GPU")
        plain = tree_map(lambda value: value.kept if isinstance(value, OnGpu) else value, (args, kwargs))
        found = function(*plain[0], **plain[1])
        changed = _changed(function, args, kwargs)
        if changed:  # in place, or given as out
            return changed[0] if isinstance(found, Tensor) else tuple(changed)
        return tree_map(lambda value: OnGpu(value) if to_gpu and isinstance(value, Tensor) else value, found)


def _changed(function: Any, args: Any, kwargs: Any) -> list[Any]:
    """The arguments that the function writes to."""
    found = []
    for place, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(kwargs[argument.name] if argument.name in kwargs else args[place])
    return found


def _on_cpu_first(made: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.tensor`` and ``torch.as_tensor``, which allocate memory of a device without asking the mode."""

    def make(*given: Any, device: Any = None, **named: Any) -> Tensor:
        found = made(*given, **named)
        return found if device is None else found.to(device)

    return make


@contextmanager
def pretended_gpu() -> Iterator[None]:
    made = {name: _on_cpu_first(getattr(torch, name)) for name in ("tensor", "as_tensor")}
    with mock.patch.multiple(torch, **made), _Pretending():
        yield
