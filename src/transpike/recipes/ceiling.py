"""Binary spikes in windows, for networks with clipped activations and linear bottlenecks."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.passes import CeilingThresholds, EncodeWires, InitialPotential, Rectify
from transpike.recipes._base import PercentileThresholded, setting
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True)
class Ceiling(PercentileThresholded):
    """x"""

    name: ClassVar[str] = "ceiling"
    timesteps: int = setting(32, "Time steps of a window.")
    schedule: Schedule = setting(LayerSynchronous(), "Schedule: window by window, or streaming.")
    percentile: float = setting(100.0, "Percentile of the activations without a ceiling used as threshold.")

    @property
    def rewrites(self) -> tuple[Pass, ...]:
        return (EncodeWires(pairs=True), Rectify())

    @property
    def thresholds(self) -> Pass:
        return CeilingThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(0.5),)
