"""The numbers of the samples in a batch, which models count to read each sample's own row of a mask."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from transpike.core.call import Refused, Wire


@dataclass(frozen=True)
class Samples:
    """``arange(batch)`` as (batch, 1, …), with ``axes`` axes after the batch."""

    axes: int = 0


def samples(name: str, arguments: Mapping[str, Any]) -> Samples | Tensor | None:
    """The value of a call that counts the samples, or that reads a constant by them; None for other calls."""
    short, first = name.split(".")[0], arguments.get("self")
    if name == "arange.default" and isinstance(arguments["end"], torch.SymInt):
        return Samples() if arguments["end"].node.expr.is_symbol else None
    if isinstance(first, Samples):
        if short in ("to", "_to_copy", "clone", "contiguous", "alias", "detach"):
            return first
        if short == "slice" and (arguments["dim"] or (arguments["start"] or 0, arguments["step"]) == (0, 1)):
            return first  # of the batch; every axis after it has one element
        if short == "unsqueeze" and arguments["dim"] not in (0, -first.axes - 2):
            return Samples(first.axes + 1)
        if short in ("view", "reshape"):
            rest = [size for size in arguments.get("size", arguments.get("shape"))[1:] if size == 1]
            return Samples(len(rest))
    if name == "index.Tensor" and isinstance(first, Tensor) and first.shape[:1] == (1,):
        index = arguments["indices"]
        if index and isinstance(index[0], Samples):
            zero = torch.zeros((1,) * (index[0].axes + 1), dtype=torch.long)
            return first[(zero, *(slice(None) if one is None else one for one in index[1:]))]
    return None


def own_rows(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``x[arange(batch)[:, None …], i, j …]`` as those of ``x[:, i, j …]``; others as they are.

    Raises Refused for other calls that compute with the numbers of samples.
    """
    if not any(isinstance(leaf, Samples) for leaf in pytree.tree_leaves(arguments)):
        return arguments
    index = arguments.get("indices") if name == "index.Tensor" else None
    axes, rest = (index[0].axes, list(index[1:])) if index and isinstance(index[0], Samples) else (0, [])
    known = rest and all(isinstance(one, Tensor) and _is_common(one, axes) for one in rest)
    if not known or not isinstance(arguments["self"], Wire):
        raise Refused("it computes with the numbers of the samples in their batch")
    fitted = [one.reshape((1,) * (axes - one.ndim) + tuple(one.shape)[max(0, one.ndim - axes) :]) for one in rest]
    return {**arguments, "indices": [None, *fitted]}


def _is_common(index: Tensor, axes: int) -> bool:
    """Whether an index is the same for every sample, if it has an axis for them."""
    return index.dtype != torch.bool and (index.ndim <= axes or (index.ndim == axes + 1 and index.shape[0] == 1))
