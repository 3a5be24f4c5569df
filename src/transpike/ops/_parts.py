"""The parts of an operator that are computed apart: rows of a normalisation, single values of a function."""

from torch import Tensor

from transpike.core.op import Shapes
from transpike.ops.arithmetic import EVALUATED, FREE, ONE_EACH

MIXING = frozenset(("amax", "amin", "cumsum", "cumprod", "glu", "logsumexp", "max", "mean", "min", "sort", "sum"))
"""Operators of these lists whose outputs depend on several inputs."""


def parts(operator: str, arguments: tuple, changed: tuple[Tensor, ...]) -> Tensor:
    """(batch, parts): True where a part reads a changed element of its inputs; one part if nothing else is known.

    ``operator`` like "aten.softmax.int"; ``changed`` are (batch, *shape) of bool for each input.
    """
    name, first = operator.split(".")[1], changed[0]
    if len(changed) > 1:
        return _whole(changed)
    if name in ("layer_norm", "rms_norm"):
        return first.flatten(-len(arguments[1])).any(-1).reshape(len(first), -1)
    if name in ("group_norm", "instance_norm"):
        groups = arguments[1] if name == "group_norm" else first.shape[1]
        return first.reshape(len(first), groups, -1).any(-1)
    if name in ("softmax", "_softmax", "log_softmax", "_log_softmax"):
        return first.any(arguments[1]).reshape(len(first), -1)
    if name == "glu":
        left, right = first.chunk(2, arguments[1] if len(arguments) > 1 else -1)
        return (left | right).reshape(len(first), -1)
    known = name in EVALUATED or name in ONE_EACH or name in FREE
    return first.flatten(1) if known and name not in MIXING else _whole(changed)


def _whole(changed: tuple[Tensor, ...]) -> Tensor:
    """One part that reads all inputs."""
    found = changed[0].flatten(1).any(1, keepdim=True)
    for one in changed[1:]:
        found = found | one.flatten(1).any(1, keepdim=True)
    return found


def apart(operator: str, arguments: tuple, shapes: Shapes) -> int:
    """``Op.apart`` of an operator: rows of a norm or a softmax over the last axes; 1 where nothing is known."""
    name = operator.split(".")[1]
    if len(shapes) > 1:
        return 1
    rank = len(shapes[0])
    if name in ("layer_norm", "rms_norm"):
        return rank + 1 - len(arguments[1])
    softmax = name in ("softmax", "_softmax", "log_softmax", "_log_softmax")
    return rank if softmax and arguments[1] % (rank + 1) == rank else 1
