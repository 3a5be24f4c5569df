"""Binary spikes for clipped activations and linear bottlenecks."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.passes import CeilingThresholds, InitialPotential
from transpike.recipes._base import (
    Calibrate,
    LinearWired,
    LinearWires,
    PercentileThresholded,
    calibrations,
    linear_wires,
    setting,
)
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True)
class Ceiling(LinearWired, PercentileThresholded):
    """θ = the ceiling of the activation, v(0) = θ/2, window by window, and pairs of neurons between weights.

    For networks of ReLU6 and other clips that were not trained for a conversion, such as MobileNetV2: a threshold from
    calibration data cuts off what these data do not reach, the ceiling does not. After T steps a neuron has rounded its
    activation to the nearest of T + 1 values. Where weights would read real numbers (linear bottlenecks, sums of them)
    a pair of neurons encodes these, z = relu(z) − relu(−z), with a ``percentile`` as threshold; activations without a
    ceiling have that too. Without the pairs a spike takes every path through both layers of weights.
    ``calibrate`` corrects the mean error of every channel, and then of every neuron, on simulated spikes.
    Source: transpike's own, of known parts: thresholds of clips as in OPI and QCFS, windows as in SpKeras, corrections
    as in SNN calibration (Li et al. 2021).
    Differs from the paper: there is none.
    Checked: in windows each count is the rounded activation, also beyond what calibration data reach; the pairs' counts
    are the rounded sizes of either sign, and every layer of weights adds spikes (tests/recipes/test_ceiling.py; on
    ImageNet: docs/imagenet.md).
    """

    name: ClassVar[str] = "ceiling"

    timesteps: int = setting(32, "Time steps.")
    schedule: Schedule = setting(LayerSynchronous(), "Schedule: streaming, or window by window.")
    percentile: float = setting(
        100.0, "Percentile of activations without a ceiling used as threshold; 100 is the maximum."
    )
    linear_wires: LinearWires = linear_wires("pairs", absent="pairs")
    calibrate: Calibrate = setting("none", "Correction on simulated spikes: of biases, initial potentials, or both.")
    samples: int = setting(128, "Number of simulated calibration inputs.")

    @property
    def depends_on_timesteps(self) -> bool:
        return self.calibrate != "none"

    @property
    def thresholds(self) -> Pass:
        return CeilingThresholds(self.granularity, self.readout.spiking_output, percentile=self.percentile)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(0.5),)

    @property
    def corrections(self) -> tuple[Pass, ...]:
        return calibrations(self.calibrate, self.samples)
