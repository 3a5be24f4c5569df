"""ONNX nodes of neurons that send several levels, or levels of either sign."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from transpike.lowering.whole import Follow, Layer
from transpike.lowering.whole_rules import ENDLESS


@dataclass(frozen=True)
class Firing:
    """Writes the rule of a layer, in int64. ``add`` adds a node, ``number`` a constant for each neuron."""

    layer: Layer
    add: Callable[..., str]
    number: Callable[[str, NDArray], str]

    def levels(self, potential: str, sent: str) -> str:
        """What is sent for the ``potential`` before the reset; ``sent`` is the sum of the levels before."""
        rule = self.layer.rule
        threshold = self.number("threshold", self.layer.threshold)
        if rule.kind == "levels":
            whole = self._new("Div", potential, threshold, name="quotient")  # rounds towards 0, and so never up above 0
            return self._between(whole, np.zeros(1, np.int64), np.array([rule.most]))
        if rule.takes_back:
            fires = self._whole(self._new("GreaterOrEqual", potential, threshold, name="fires"))
            deep = self._new("GreaterOrEqual", self.number("below", -rule.below), potential, name="deep")
            if rule.remembers:
                deep = self._new("And", deep, self._new("Greater", sent, self._zero, name="some"), name="takes_back")
            return self._new("Sub", fires, self._whole(deep), name="level")
        left = potential
        if rule.follow is not None:
            known = self._new("Mul", sent, threshold, name="known")
            left = self._new("Sub", self._wanted(rule.follow, potential), known, name="left")
        return self._digits(left) if rule.kind == "all" else self._nearest(left, sent)

    def _new(self, operator: str, *inputs: str, name: str, **attributes: object) -> str:
        return self.add(operator, *inputs, name=f"{self.layer.name}_{name}", **attributes)

    @property
    def _zero(self) -> str:
        return self.number("zero", np.zeros(1))

    def _whole(self, condition: str) -> str:
        return self._new("Cast", condition, name="whole", to=np.dtype(np.int64))

    def _between(self, value: str, low: NDArray, high: NDArray) -> str:
        """Ends that are endless are left out."""
        if (low > -ENDLESS).any():
            value = self._new("Max", value, self.number("low", low), name="at_least")
        if (high < ENDLESS).any():
            value = self._new("Min", value, self.number("high", high), name="at_most")
        return value

    def _wanted(self, follow: Follow, estimate: str) -> str:
        """``times · clip(⌊(a w + offset) / divisor⌋, low, high)``; Mod has the sign of the divisor, above 0."""
        slope = self.number("rising", follow.rising)
        if not np.array_equal(follow.rising, follow.falling):
            negative = self._new("Less", estimate, self._zero, name="negative")
            slope = self._new("Where", negative, self.number("falling", follow.falling), slope, name="slope")
        product = self._new("Mul", slope, self._between(estimate, -follow.reach, follow.reach), name="product")
        product = self._new("Add", product, self.number("offset", follow.offset), name="shifted")
        divisor = self.number("divisor", follow.divisor)
        product = self._new("Sub", product, self._new("Mod", product, divisor, name="rest"), name="multiple")
        wanted = self._between(self._new("Div", product, divisor, name="wanted"), follow.low, follow.high)
        if (follow.times == 1).all():
            return wanted
        return self._new("Mul", wanted, self.number("times", follow.times), name="parts")

    def _reaches(self, left: str, power: int) -> str:
        """Whether ``4 |left| ≥ 3 · power · threshold``."""
        size = self._new(
            "Mul", self._new("Abs", left, name="size"), self.number("four", np.array([4])), name="four_times"
        )
        return self._new("GreaterOrEqual", size, self.number("edge", 3 * power * self.layer.threshold), name="reaches")

    def _nearest(self, left: str, sent: str) -> str:
        """The power is the sum of what each reached power adds to the one below it."""
        parts = []
        for power in self.layer.rule.powers:
            reached = self._reaches(left, power)
            if self.layer.rule.kind == "nearest":
                enough = self._new("GreaterOrEqual", sent, self.number("room", np.array([power])), name="enough")
                up = self._new("GreaterOrEqual", left, self._zero, name="up")
                reached = self._new("And", reached, self._new("Or", up, enough, name="allowed"), name="possible")
            part = self.number("part", np.array([power - power // 2]))
            parts.append(self._new("Mul", self._whole(reached), part, name="adds"))
        size = reduce(lambda one, other: self._new("Add", one, other, name="power"), parts)
        return self._new("Mul", size, self._new("Sign", left, name="sign"), name="level")

    def _digits(self, left: str) -> str:
        levels = []
        for power in self.layer.rule.powers:
            sign = self._new(
                "Mul", self._whole(self._reaches(left, power)), self._new("Sign", left, name="sign"), name="digit"
            )
            levels.append(self._new("Mul", sign, self.number("power", np.array([power])), name="digit_level"))
            taken = self._new("Mul", levels[-1], self.number("threshold", self.layer.threshold), name="digit_taken")
            left = self._new("Sub", left, taken, name="left")
        return reduce(lambda one, other: self._new("Add", one, other, name="level"), levels)
