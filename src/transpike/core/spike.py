"""The only place where a membrane potential becomes a spike."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor


class Surrogate(Protocol):
    """The surrogate of the step function's derivative, as a function of ``x = (u − threshold) / unit``.

    ``height_if_flat`` is the non-zero value of a rectangular surrogate, for which one bit per element is stored.
    """

    @property
    def height_if_flat(self) -> float | None: ...

    def gradient(self, x: Tensor) -> Tensor: ...


_chosen: ContextVar[Surrogate | None] = ContextVar("surrogate", default=None)


@contextmanager
def surrogate_gradient(surrogate: Surrogate | None) -> Iterator[None]:
    """Inside it every ``fire`` and ``floor_clip`` of this thread passes gradients; the spikes stay the same."""
    before = _chosen.set(surrogate)
    try:
        yield
    finally:
        _chosen.reset(before)


def fire(u: Tensor, threshold: Tensor, unit: Tensor | None = None, surrogate: Surrogate | None = None) -> Tensor:
    """``s = 1 if u ≥ threshold else 0``, with u the membrane potential.

    With a ``surrogate`` (given, or that of ``surrogate_gradient``) gradients pass as
    ``∂s/∂u = g(x) / unit,  ∂s/∂threshold = −g(x) / unit,  x = (u − threshold) / unit``; ``unit`` is the threshold
    unless given, so that the width of the surrogate follows it: ``∂s/∂θ = −(u / θ²) g(u/θ − 1)``.
    """
    surrogate = surrogate or _chosen.get()
    if surrogate is None:
        return (u >= threshold).to(u.dtype)
    return _Fire.apply(u, threshold, threshold if unit is None else unit, surrogate)


def floor_clip(level: Tensor, most: int) -> Tensor:
    """``clip(⌊level⌋, 0, most)``; with an active surrogate the gradient is 1 for ``½ ≤ level < most + ½``.

    With v(0) = θ/2, which rounds to the nearest step of the staircase, this is the gradient of a clipped ReLU.
    """
    if _chosen.get() is None:
        return torch.floor(level).clamp(0, most)
    return _FloorClip.apply(level, most)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor, unit: Tensor, surrogate: Surrogate) -> Tensor:
        x = (u - threshold) / unit
        moves = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]  # x itself is then needed
        compact = surrogate.height_if_flat is not None and not moves
        ctx.save_for_backward(unit, surrogate.gradient(x) != 0 if compact else x)
        ctx.surrogate, ctx.compact, ctx.shape = surrogate, compact, threshold.shape
        return (u >= threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        unit, x = ctx.saved_tensors
        slope = x.to(gradient) * ctx.surrogate.height_if_flat if ctx.compact else ctx.surrogate.gradient(x)
        change = gradient * slope / unit
        edge = -change.sum_to_size(ctx.shape) if ctx.needs_input_grad[1] else None
        width = -(change * x).sum_to_size(unit.shape) if ctx.needs_input_grad[2] else None
        return change, edge, width, None


class _FloorClip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, level: Tensor, most: int) -> Tensor:
        ctx.save_for_backward((level >= 0.5) & (level < most + 0.5))
        return torch.floor(level).clamp(0, most)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None
