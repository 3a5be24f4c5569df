"""Local threshold balancing with a delayed readout."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.passes import InitialPotential, LocalThresholdBalancing
from transpike.passes.rewrites.pooling import PoolingRule
from transpike.readouts import DelayedWindow
from transpike.recipes._base import RateCoded, setting


@dataclass(frozen=True)
class LTB(RateCoded):
    """Thresholds that grow from 0 to reduce the clipping error, ``v(0) = θ/2``, a delayed readout.

    Maximum pooling moves before the neuron. Source: Bu, Li, Yu 2025 (CVPR), "Inference-scale complexity in ANN-SNN
    conversion", sections 4.2 and 4.3, and the authors' code; the delay as estimated by SpikingJelly's port.
    Differs from the paper: a neuron fires at v ≥ θ (the code compares strictly); batch normalisation is folded before.
    Checked: with one update θ is 2 mean(max(a, 0)) of each channel; more updates clip less, in deep layers, whose input
    grows at the same time, only from the second update on; the readout is the mean of the steps after D, unlike the
    plain readout (tests/recipes/test_ltb.py).
    """

    name: ClassVar[str] = "ltb"
    pooling: PoolingRule = setting("before-neuron", "Rule for maximum pooling in time.")
    readout: Readout = setting(DelayedWindow(), "Output readout.")
    rate: float = setting(1.0, "Rate of the gradient descent on the clipping error.")
    updates: int = setting(10, "Number of updates, one calibration batch each.")
    batch_size: int = setting(100, "Calibration inputs per update.")
    beta: float = setting(0.5, "Initial potential as a share of the threshold.")

    @property
    def thresholds(self) -> Pass:
        spiking = self.readout.spiking_output
        return LocalThresholdBalancing(
            self.granularity, spiking, rate=self.rate, updates=self.updates, batch_size=self.batch_size
        )

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(self.beta),)
