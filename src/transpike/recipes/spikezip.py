"""The recipe of SpikeZIP-TF: quantised transformers as spiking networks with the same answer."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.passes import (
    EncodeWires,
    FoldLayerNorm,
    JoinQuantisers,
    LearnedThresholds,
    ProductsOfWires,
    RefuseUnquantised,
    ReplaceNeurons,
    UseQuantisedLevels,
)
from transpike.passes.rewrites.pooling import PoolingRule
from transpike.recipes._base import Granularity, RateCoded, setting
from transpike.schedules import Differences


@dataclass(frozen=True)
class SpikeZIP(RateCoded):
    """ST-BIF neurons of a quantised network: in each step one level up or down, towards the quantised value.

    ``v = E / s + ½ − R;  +1 if v ≥ 1 and R < highest;  −1 if v < 0 and R > lowest;  R += spike``, E the sum of what was
    received and s the scale of the quantiser. The fixed point is ``R = clip(round(E / s), lowest, highest)``: when
    nothing fires, the spiking network is the quantised one. Constant input and biases are added once; softmax, norms
    and other functions remain analogue and send differences; products of two wires add stored states. Every value that
    weights or products read must be quantised in training. A quantiser of L levels needs up to L steps; with n =
    ``threshold_count`` signed thresholds, powers of two, it is the same fixed point in about log L steps.
    Source: You et al. 2024 (SpikeZIP-TF, ICML), ST-BIF neuron and operators, from its code.
    Differs from the paper: nothing in the neurons; the quantised network is yours, trained elsewhere, where the paper's
    is distilled for 100 epochs with ReLUs. Halves are rounded as in the source network. The exact grid rounds weights,
    which moves values near an edge to the next level; ``convert(…, exact_grid=False)`` does not.
    Checked: the same spikes as the neuron with its potential and counter, step by step; its fixed point on random
    signed input; a settled network gives the quantised network's answer (tests/recipes/test_transformers.py).
    """

    name: ClassVar[str] = "spikezip"
    keeps_operators: ClassVar[bool] = True

    timesteps: int = setting(32, "Time steps.")
    granularity: Granularity = setting("layer", "One threshold per layer or channel, as trained.")
    pooling: PoolingRule = setting("differences", "Rule for maximum pooling in time.")
    schedule: Schedule = setting(Differences(gain="unit"), "Schedule: differences with unit gain.")
    threshold_count: int = setting(1, "Number of thresholds per neuron; 1 is ST-BIF.")

    @property
    def training_free(self) -> bool:
        return False

    @property
    def rewrites(self) -> tuple[Pass, ...]:
        return (FoldLayerNorm(), ProductsOfWires(), JoinQuantisers(), EncodeWires(behind="analogue"))

    @property
    def checks(self) -> tuple[Pass, ...]:
        return (RefuseUnquantised(),)

    @property
    def thresholds(self) -> Pass:
        return LearnedThresholds(self.granularity)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseQuantisedLevels(self.threshold_count)
