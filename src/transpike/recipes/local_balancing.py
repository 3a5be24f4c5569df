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
    """Thresholds that grow from 0 against the clipping error, ``v(0) = θ/2``, the answer read after a delay.

    Maximum pooling moves before the neuron. Source: Bu, Li, Yu 2025 (CVPR), "Inference-scale complexity in ANN-SNN
    conversion", sections 4.2 and 4.3, and the authors' code; the delay as estimated by SpikingJelly's port.
    Differs from the paper: a neuron fires at v ≥ θ (the code compares strictly); batch normalisation is folded before.
    Checked: with one update θ is 2 mean(max(a, 0)) of each channel; more updates clip less, though deep layers,
    whose input grows meanwhile, only from the second on; the readout is the mean of the steps after D, which the plain
    readout is not (tests/recipes/test_ltb.py).
    """

    name: ClassVar[str] = "ltb"
    pooling: PoolingRule = setting("before-neuron", "How maximum pooling works in time.")
    readout: Readout = setting(DelayedWindow(), "How the answer is read.")
    rate: float = setting(1.0, "Rate of the descent on the clipping error.")
    updates: int = setting(10, "Batches of calibration inputs, one update each.")
    batch_size: int = setting(100, "Calibration inputs of an update.")
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
