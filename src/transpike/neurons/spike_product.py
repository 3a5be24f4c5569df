"""Products of two spike trains that carry differences."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.cell import Cell, Gain, Mode
from transpike.errors import SettingError
from transpike.neurons._product import ProductCell
from transpike.neurons._rounded import RoundedProduct
from transpike.neurons.apart import steps_apart, updates

MANTISSA = 2.0**24
"""Integers up to which float32 adds exactly."""
STATE_STEPS = 63
"""Steps for which the grid has room: a sum of received levels is at most that number of times the largest of one
step."""


@dataclass(frozen=True, eq=False)
class SpikeProduct(ProductCell):
    """``P += a · S_b;  S_a += a;  P += S_a · b;  S_b += b`` for received differences a, b; it sends the changes of P.

    S_a and S_b are the sums of the received differences, so that P = S_a · S_b, the product of the estimates, at every
    step. An event of one side adds the partner's state, once for each product in which its element has a part; nothing
    is multiplied, because a difference is a signed power of two, and the charge of a level is a factor of the stored
    states. With ``gain`` "reciprocal" a difference of step t counts 1/t, and what is sent t times as much. The messages
    are sums of several levels, which reports list as analogue. A third input of Boolean values, which come before or
    with the first differences, hides pairs (``Product.by_sample``).
    """

    modes: ClassVar[tuple[Mode, ...]] = ("differences",)
    settles: ClassVar[bool] = True
    gain: Gain = "unit"

    def __post_init__(self) -> None:
        if self.gain not in ("reciprocal", "unit"):
            raise SettingError(f"gain must be 'reciprocal' or 'unit', not {self.gain!r}")

    def init(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(x) for x in inputs)

    def step(self, state: tuple[Tensor, ...], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor]:
        steps = t if self.gain == "reciprocal" else 1
        first, second, *masks = (x if steps == 1 else x / steps for x in inputs)
        hidden = [before + x for before, x in zip(state[2:], masks, strict=True)]
        change = self.op.run(first, state[1], *hidden)
        sums = state[0] + first, state[1] + second
        change = change + self.op.run(sums[0], second, *hidden)
        return (*sums, *hidden), steps * change

    def scan(self, state: tuple[Tensor, ...], *trains: Tensor, t: int) -> tuple[tuple[Tensor, ...], Tensor, int]:
        """With unit gain: the product of the sums, of those samples and matrices that receive input."""
        if self.gain == "reciprocal":
            return super().scan(state, *trains, t=t)
        before = self._product(*state)
        sums, _, sent = steps_apart(self.op, state, before, trains, updates(self._product), everything=False)
        return sums, sent, 0

    def _product(self, first: Tensor, second: Tensor, *masks: Tensor) -> Tensor:
        """The product of integers in float32 where this is exact; of others in their own type."""
        terms = first.shape[-1] if self.op.matrices else 1
        small = first.numel() and second.numel() and terms * first.abs().amax() * second.abs().amax() < MANTISSA
        if small and all(torch.equal(one, one.round()) for one in (first, second)):
            return self.op.run(first.float(), second.float(), *masks).to(first.dtype)
        return self.op.run(first, second, *masks)

    def settled(self, *estimates: Tensor) -> Tensor:
        return self.op.run(*estimates)

    def unsent(self, state: tuple[Tensor, ...], fresh: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        return state, torch.where(fresh, self.op.run(*state), 0.0)

    def on_grid(self, largest: float) -> Cell:
        return RoundedProduct.of_range(self.op, largest) if self.gain == "unit" else self

    def bound(self, *inputs: Tensor) -> Tensor:
        first, second, *masks = inputs
        return 2 * STATE_STEPS * self.op.run(first, second, *map(torch.zeros_like, masks))

    def describe(self) -> str:
        return f"{self.op.describe()} of spikes"
