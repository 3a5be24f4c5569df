"""Integrate-and-fire over all steps as one differentiable operation, a few samples at a time."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from transpike.core.spike import Surrogate
from transpike.training.spiking.packing import mark

CACHED = 2**16
"""Number of neurons stepped together, so that their state fits the processor's cache."""


def scan(
    current: Tensor,
    threshold: Tensor,
    initial: Tensor,
    leak: Tensor | float,
    reset: Literal["soft", "hard"],
    surrogate: Surrogate,
    timesteps: int,
    detach_reset: bool = False,
) -> Tensor:
    """The spikes of ``neurons.IntegrateAndFire``, (timesteps, batch, *shape), with the gradients of its steps.

    ``current`` is (timesteps or 1, batch, *shape); a single step is a constant current. ``detach_reset`` passes no
    gradient through the reset. The backward pass stores the spikes, and a mask if the surrogate is flat, the reset soft
    and only the current has a gradient, else the potentials.
    """
    leak = torch.as_tensor(leak, dtype=threshold.dtype, device=threshold.device)
    return _Scan.apply(current, threshold, initial, leak, reset, surrogate, timesteps, detach_reset)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        threshold: Tensor,
        initial: Tensor,
        leak: Tensor,
        reset: str,
        surrogate: Surrogate,
        timesteps: int,
        detach_reset: bool,
    ) -> Tensor:
        wide = torch.promote_types(current.dtype, torch.float32)
        device = current.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else current.dtype
        spikes = mark(current.new_empty((timesteps, *current.shape[1:]), dtype=narrow))
        needs = ctx.needs_input_grad
        height = surrogate.height_if_flat
        compact = height is not None and reset == "soft" and not (needs[1] or needs[3])
        kept = torch.empty_like(spikes, dtype=narrow if compact else wide)
        if compact:
            mark(kept)
        for rows in _parts(current):
            now, sent, keep = current[:, rows].to(wide), spikes[:, rows], kept[:, rows]
            potential = initial.to(wide).expand(now.shape[1:]).clone(memory_format=torch.contiguous_format)
            fired = torch.empty_like(potential)  # numbers, because torch is ten times slower with booleans
            for t in range(timesteps):
                if not _is_one(leak):
                    potential.mul_(leak)
                potential.add_(now[t if len(now) > 1 else 0])
                if compact and height is not None:
                    x = torch.div(potential, threshold, out=fired).sub_(1)
                    keep[t] = surrogate.gradient(x).div_(height)
                else:
                    keep[t] = potential
                sent[t] = torch.ge(potential, threshold, out=fired)
                potential.addcmul_(fired, threshold if reset == "soft" else potential, value=-1)
        ctx.save_for_backward(spikes, kept, threshold, initial, leak)
        ctx.steps, ctx.dtype = len(current), current.dtype
        ctx.settings = reset, surrogate, compact, detach_reset
        return spikes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spikes, kept, threshold, initial, leak = ctx.saved_tensors
        result = spikes.new_empty((ctx.steps, *spikes.shape[1:]), dtype=ctx.dtype)
        totals = [
            torch.zeros_like(value) if need else None
            for value, need in zip((threshold, initial, leak), ctx.needs_input_grad[1:4], strict=True)
        ]
        for rows in _parts(spikes):
            part = _Back(ctx, gradient[:, rows], spikes[:, rows], kept[:, rows], (threshold, initial, leak), totals)
            part.run(result[:, rows])
        return (result if ctx.needs_input_grad[0] else None, *totals, None, None, None, None)


class _Back:
    """Backward pass of some samples: ``gs`` = total ∂/∂s, ``gv`` = ∂/∂v after a step, then before it."""

    def __init__(
        self,
        ctx: Any,
        gradient: Tensor,
        spikes: Tensor,
        kept: Tensor,
        parameters: tuple[Tensor, Tensor, Tensor],
        totals: list[Tensor | None],
    ) -> None:
        self.reset, self.surrogate, self.compact, self.detached = ctx.settings
        self.wide = torch.promote_types(ctx.dtype, torch.float32)
        self.gradient, self.spikes, self.kept, self.totals = gradient, spikes, kept, totals
        self.threshold, self.initial, self.leak = parameters
        self.spare = torch.empty(spikes.shape[1:], dtype=self.wide, device=spikes.device)

    def run(self, result: Tensor) -> None:
        gv, total = torch.zeros_like(self.spare), None
        for t in reversed(range(len(self.spikes))):
            self.step(t, gv)
            if len(result) > 1:
                result[t] = gv
            else:
                total = gv.clone() if total is None else total.add_(gv)
            if self.totals[2] is not None:
                self.totals[2].add_(self.before(t).mul_(gv).sum())
            if not _is_one(self.leak):
                gv.mul_(self.leak)
        if total is not None:
            result[0] = total
        if self.totals[1] is not None:
            self.totals[1].add_(gv.sum_to_size(self.initial.shape))

    def step(self, t: int, gv: Tensor) -> None:
        """``gv`` after step t becomes the gradient of the potential before the spike."""
        soft, potential = self.reset == "soft", self.kept[t]
        s, gs = self.spikes[t].to(self.wide), self.gradient[t].to(self.wide)
        if not self.detached:
            gs = torch.addcmul(gs, gv, self.threshold if soft else potential, value=-1)
        if self.compact:
            change = potential.to(self.wide, copy=True).mul_(self.surrogate.height_if_flat)
        else:
            change = self.surrogate.gradient(torch.div(potential, self.threshold, out=self.spare).sub_(1))
        change.mul_(gs).div_(self.threshold)
        if self.totals[0] is not None:
            shape = self.threshold.shape
            moved = torch.mul(change, potential, out=self.spare).sum_to_size(shape) / self.threshold
            if soft:
                moved += torch.mul(gv, s, out=self.spare).sum_to_size(shape)
            self.totals[0].sub_(moved)
        if not soft:
            gv.addcmul_(gv, s, value=-1)
        gv.add_(change)

    def before(self, t: int) -> Tensor:
        """The potential before step t, as a new tensor."""
        if not t:
            return self.initial.to(self.wide).expand_as(self.spare).clone()
        potential, s = self.kept[t - 1], self.spikes[t - 1].to(self.wide)
        return torch.addcmul(potential, s, self.threshold if self.reset == "soft" else potential, value=-1)


def _is_one(leak: Tensor) -> bool:
    return bool(leak == 1)


def _parts(value: Tensor) -> list[slice]:
    """The batch, axis 1, in parts that fit the cache."""
    size = max(1, CACHED // math.prod(value.shape[2:]))
    return [slice(start, start + size) for start in range(0, value.shape[1], size)]
