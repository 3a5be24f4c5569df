"""The levels of quantised activations."""

from torch import Tensor

from transpike.activations import Quantiser, Staircase
from transpike.core.plain import is_plain


def level_of(op: object) -> Tensor | None:
    """The size of one level of a quantised activation; None for others."""
    if is_plain(op, Quantiser) and op.rounds:
        return op.scale
    if is_plain(op, Staircase) and not op.slope:
        return op.threshold / op.levels
    return None
