"""The one place where a membrane potential becomes a spike."""

from collections.abc import Callable

from torch import Tensor

Surrogate = Callable[[Tensor], Tensor]


def fire(u: Tensor, surrogate: Surrogate | None = None) -> Tensor:
    """``s = 1 if u ≥ 0 else 0``, with u the membrane potential minus the threshold.

    ``v ≥ θ`` and ``v − θ ≥ 0`` agree in IEEE arithmetic, so nothing is lost by the subtraction.
    A ``surrogate`` replaces the step so that a gradient can pass.
    """
    return (u >= 0).to(u.dtype) if surrogate is None else surrogate(u)
