"""T2FSNN: first spikes with trained kernels per layer and early firing."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike.codes.time_code import TimeCode
from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.errors import SettingError
from transpike.passes import PercentileThresholds, TrainKernels
from transpike.recipes._base import setting
from transpike.recipes._first_spike import TimeCoded
from transpike.schedules import TimeSlots


@dataclass(frozen=True)
class T2FSNN(TimeCoded):
    """Exponential kernels ``exp(−(t − td)/τ)``, τ and td trained for each layer, neurons that fire early.

    θ is a percentile of the layer's activations. A layer begins to fire ``wait_steps`` H slots after it begins to
    integrate: by default half a window; ``wait_steps=timesteps`` gives whole windows. With n neuron layers the latency
    is ``n H + T`` slots: 680 for VGG-16 at T = 80 and H = 40, 1280 at H = 80.
    Source: Park, Kim, Na, Yoon 2020 (DAC; arXiv 2003.11741), from their code (SNN-neural-coding).
    Differs from the paper: a neuron that has fired cannot fire again; λ is a percentile of the layer's values, not the
    largest of its neurons' percentiles; the input's kernel is not trained; an analogue input unless ``input`` is
    "spikes"; the kernel's levels lie on a grid.
    Checked: the published τ and td give its smallest and largest code; training lowers its losses; whole windows
    equal the closed form; early firing does not, and has a lower latency (tests/recipes/test_first_spike.py).
    """

    name: ClassVar[str] = "t2fsnn"
    timesteps: int = setting(80, "Slots of a window.")
    tau: float = setting(20.0, "Initial time constant of the kernel, in slots.")
    wait_steps: int | None = setting(
        None, "Slots between the first input and the first possible spike of a layer; default: half a window."
    )
    epochs: int = setting(6, "Epochs over the calibration data that train each layer's tau and delay.")
    percentile: float = setting(99.9, "Percentile of each layer's activations used as threshold; 100 is the maximum.")
    rounding: Literal["down", "nearest"] = setting("down", "Rounding of levels: down, or to the nearest.")

    def __post_init__(self) -> None:
        if self.wait_steps is not None and (
            isinstance(self.wait_steps, bool) or not isinstance(self.wait_steps, int) or self.wait_steps < 0
        ):
            raise SettingError(
                f"wait_steps must be an integer number of slots, at least 0, or None, not {self.wait_steps!r}"
            )
        super().__post_init__()

    @property
    def code(self) -> TimeCode:
        return TimeCode(self.timesteps, self.tau, math.e, rounding=self.rounding, bits=self.kernel_bits)

    @property
    def thresholds(self) -> Pass:
        return PercentileThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)

    @property
    def corrections(self) -> tuple[Pass, ...]:
        return (TrainKernels(self.epochs),)

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        wait_steps = self.timesteps // 2 if self.wait_steps is None else self.wait_steps
        return TimeSlots(wait_steps if wait_steps < self.timesteps else None)
