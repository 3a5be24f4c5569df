"""Time-to-first-spike code: the level of a spike in each slot, and the threshold of each slot.

The closed form (``codes.first_spike``) and the step-by-step neuron (``neurons.FirstSpike``) use the same tables, and
neither imports the other.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from transpike.errors import SettingError

Kernel = Literal["exponential", "linear"]
Rounding = Literal["down", "nearest"]

TIE = 2.0**-20  # thresholds are lowered by this share, so that rounding to float32 does not push a level below its own
FEWEST_BITS, MOST_BITS = 8, 24
LONGEST = 2**16


@dataclass(frozen=True)
class TimeCode:
    """A spike in slot t = 0 … ``window`` − 1 has the value ``θ κ(t)``, which decreases with t.

    "exponential": ``κ(t) = base^{−(t − delay)/tau}`` (CAT: base 2; T2FSNN: base e, with one delay per layer);
    "linear": ``κ(t) = 1 − t/window``. The threshold in slot t is ``θ κ(t)``, so a value is rounded down to a level;
    with ``rounding="nearest"`` it is ``θ κ(t + ½)``. Slots after ``last`` (default: window − 1) are not used.
    ``bits``: levels are integer multiples of ``θ 2^−bits``, rounded up, so that a level is never below its threshold
    and is coded as itself. None takes the smallest number of bits, at least 8, for which all levels are distinct. For
    a linear kernel the levels are integer numbers of slots and ``bits`` is ignored. Raises SettingError for settings
    out of range and for levels that coincide.

    Source: Park et al. 2020 (T2FSNN, DAC), from their code; base 2 and ``last`` (the paper's φ may count T or T − 1
    slots) for CAT, Lew et al. 2022 (DAC), **unverified**: the paper's body was not available.

    >>> code = TimeCode(24, 4.0)
    >>> [code.slot(x) for x in (1.3, 1.0, 0.9, 0.5, 0.1, 0.018)]
    [0, 0, 1, 4, 14, None]
    """

    window: int = 24
    tau: float = 4.0
    base: float = 2.0
    delay: float = 0.0
    last: int | None = None
    rounding: Rounding = "down"
    kernel: Kernel = "exponential"
    bits: int | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.window, int) and not isinstance(self.window, bool)
        if not whole or not 1 <= self.window <= LONGEST:
            raise SettingError(f"a window has 1 to {LONGEST} slots, not {self.window!r}")
        for name in ("tau", "base", "delay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise SettingError(f"{name} must be a number, not {value!r}")
        if not self.tau > 0 or not self.base > 1:
            raise SettingError(f"tau must be positive and base above 1, not {self.tau} and {self.base}")
        if self.rounding not in get_args(Rounding):
            raise SettingError(f"rounding must be one of {', '.join(get_args(Rounding))}, not {self.rounding!r}")
        if self.kernel not in get_args(Kernel):
            raise SettingError(f"kernel must be one of {', '.join(get_args(Kernel))}, not {self.kernel!r}")
        if self.last is not None and (
            not isinstance(self.last, int) or isinstance(self.last, bool) or not 0 <= self.last < self.window
        ):
            raise SettingError(f"the last usable slot of a window of {self.window} is 0 to {self.window - 1} or None")
        if self.bits is not None and (
            not isinstance(self.bits, int) or isinstance(self.bits, bool) or not 1 <= self.bits <= MOST_BITS
        ):
            raise SettingError(f"bits must be an integer from 1 to {MOST_BITS} or None, not {self.bits!r}")
        _ = self.levels  # raises for levels that coincide

    @property
    def slots(self) -> int:
        """The number of slots that may hold a spike."""
        return self.window if self.last is None else self.last + 1

    @cached_property
    def spike_scale(self) -> float:
        """The value of one level, in units of θ."""
        return 1 / self.window if self.kernel == "linear" else 2.0**-self._bits

    @cached_property
    def levels(self) -> Tensor:
        """The level of a spike in each slot, (slots,), integers as float64, strictly decreasing."""
        slots = torch.arange(self.slots, dtype=torch.float64)
        if self.kernel == "linear":
            return self.window - slots
        if not self._fits(self._bits):
            raise SettingError(
                f"with {self._bits} bits the levels of the last slots coincide: use more bits, a larger tau, or an "
                f"earlier last slot than {self.slots - 1}"
            )
        return self._levels(self._bits)

    @cached_property
    def slot_thresholds(self) -> Tensor:
        """The threshold of each slot in units of θ, (slots,), float64 values that float32 represents exactly."""
        slots = torch.arange(self.slots, dtype=torch.float64)
        late = 0.5 if self.rounding == "nearest" else 0.0
        if self.kernel == "linear":
            slot_thresholds = (self.window - slots - late) / self.window - TIE
        else:
            slot_thresholds = self._kernel(slots + late) * (1 - TIE)
        return slot_thresholds.float().double()

    @property
    def ceiling(self) -> float:
        """The largest value in units of θ: that of a spike in slot 0."""
        return float(self.levels[0]) * self.spike_scale

    @property
    def smallest(self) -> float:
        """The smallest value in units of θ that reaches a threshold."""
        return float(self.slot_thresholds[-1])

    def slot(self, value: float) -> int | None:
        """The slot in which ``value``, in units of θ, reaches the threshold; None: never."""
        return next((t for t, threshold in enumerate(self.slot_thresholds.tolist()) if value >= threshold), None)

    def value(self, slot: int | None) -> float:
        """The value of a spike in ``slot``, in units of θ; 0 for None."""
        return 0.0 if slot is None else float(self.levels[slot]) * self.spike_scale

    def shortened(self, window: int) -> "TimeCode":
        """The same code with a shorter window; values of later slots are lost. Raises SettingError for a longer one."""
        if window > self.window:
            raise SettingError(
                f"the neurons were converted for windows of {self.window} slots, not {window}: use at most "
                f"{self.window} time steps, or convert with more"
            )
        if self.kernel == "linear" or window == self.window:
            last = min(self.slots, window) - 1
            return replace(self, last=None if last == self.window - 1 else last)
        last = min(self.slots, window) - 1
        return replace(self, window=window, last=None if last == window - 1 else last, bits=self._bits)

    @cached_property
    def _bits(self) -> int:
        if self.bits is not None:
            return self.bits
        fewest = next((b for b in range(FEWEST_BITS, MOST_BITS + 1) if self._fits(b)), None)
        if fewest is None:
            raise SettingError(
                f"the levels of {self.slots} slots with tau={self.tau:g} are too close or too small for {MOST_BITS} "
                "bits: use fewer slots, or another tau"
            )
        return fewest

    def _fits(self, bits: int) -> bool:
        """True if all levels are distinct and each level is coded as itself."""
        levels = self._levels(bits)
        values, slot_thresholds = levels * 2.0**-bits, self.slot_thresholds
        apart = bool((levels[1:] < levels[:-1]).all()) and bool(levels[-1] >= 1)
        return apart and bool((values >= slot_thresholds).all()) and bool((values[1:] < slot_thresholds[:-1]).all())

    def _kernel(self, slots: Tensor) -> Tensor:
        return torch.exp2(-(slots - self.delay) / self.tau * math.log2(self.base))

    def _levels(self, bits: int) -> Tensor:
        # powers of two are exact; a value that exceeds an integer by less than 1e-3 is rounding error
        return torch.ceil(self._kernel(torch.arange(self.slots, dtype=torch.float64)) * 2.0**bits - 1e-3)

    def __str__(self) -> str:
        if self.kernel == "linear":
            text = f"{self.window} slots, linear"
        else:
            base = "e" if self.base == math.e else f"{self.base:g}"
            text = f"{self.window} slots, base {base}, τ {self.tau:g}"
            text += f", delay {self.delay:g}" if self.delay else ""
        return (
            text
            + (f", last {self.last}" if self.last is not None else "")
            + (", to the nearest" if self.rounding == "nearest" else "")
        )
