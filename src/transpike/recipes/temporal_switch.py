"""Temporal-switch coding: two spikes per value."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.schedule import Schedule
from transpike.errors import SettingError
from transpike.passes import Granularity, ReplaceNeurons, UseSwitches
from transpike.recipes._base import PercentileThresholded, setting
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True)
class TSC(PercentileThresholded):
    """A neuron integrates a window, then switches its current on and, N steps later, off: two spikes instead of N.

    Between the two spikes the receiver adds the weight in each step: a neuron update, not a synaptic operation.
    Source: Han and Roy 2020 (temporal-switch coding, ECCV), **from memory**: two spikes per value, an interval
    proportional to it, soft reset.
    Differs from the paper: whole windows, so that there is one interval (the paper's switching during integration is
    not in our sources); thresholds are each layer's largest activation (in the paper those of RMP).
    Checked: counts and outputs equal layer-synchronous rates with the same thresholds, with two spikes per active
    neuron for any count (tests/recipes/test_temporal_switch.py).
    """

    name: ClassVar[str] = "tsc"
    granularity: Granularity = setting("layer", "One threshold per layer, channel or neuron.")
    percentile: float = setting(100.0, "Percentile of each layer's activations used as threshold; 100 is the maximum.")
    schedule: Schedule = setting(LayerSynchronous(), "Schedule: window by window.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule.mode != "windows" or self.schedule.lag(self.timesteps) < self.timesteps:
            raise SettingError(
                "a switched neuron must integrate its whole window first: use schedule=LayerSynchronous()"
            )

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseSwitches()
