"""Two spikes for a value."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.schedule import Schedule
from transpike.errors import SettingError
from transpike.passes import Granularity, ReplaceNeurons, UseSwitches
from transpike.recipes._base import PercentileThresholded, setting
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True)
class TSC(PercentileThresholded):
    """A neuron hears a window, then switches its current on and, N steps later, off: the charge of N spikes for two.

    Between the two the receiver adds the weight in each step, which is a neuron's update and no synaptic operation.
    Source: Han and Roy 2020 (temporal-switch coding, ECCV), **from memory**: two spikes a value, an interval that is
    proportional to it, soft reset.
    Differs from the paper: whole windows, so that the interval is one (how its neurons start and stop while they hear
    is not in the reference); thresholds are each layer's largest activation (there those of RMP).
    Checked: counts and answers are those of layer-synchronous rates with the same thresholds, in two spikes a neuron
    that fires, however large the count (tests/recipes/test_temporal_switch.py).
    """

    name: ClassVar[str] = "tsc"
    granularity: Granularity = setting("layer", "One threshold for each layer, channel or neuron.")
    percentile: float = setting(100.0, "Of each layer's activations: the threshold; 100 is the maximum.")
    schedule: Schedule = setting(LayerSynchronous(), "When neurons fire: window by window.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule.mode != "windows" or self.schedule.lag(self.timesteps) < self.timesteps:
            raise SettingError("a switch needs to have heard its whole window: use schedule=LayerSynchronous()")

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseSwitches()
