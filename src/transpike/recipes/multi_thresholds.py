"""Recipes for neurons with several thresholds: groups, multi-threshold neurons and differential ones."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.neurons.multi_threshold import check_threshold_count
from transpike.passes import (
    EncodeWires,
    FoldLayerNorm,
    GaussianThresholds,
    InitialPotential,
    NeuronsForFunctions,
    ProductsOfWires,
    RecogniseFunctions,
    ReplaceNeurons,
    UseGroups,
    UseMultiThresholds,
)
from transpike.passes.rewrites.pooling import PoolingRule
from transpike.recipes._base import GaussianCoded, LearnedCoded, setting
from transpike.schedules import Differences


@dataclass(frozen=True)
class GroupNeuron(LearnedCoded):
    """m = ``members`` neurons on one membrane, thresholds λ/m … λ, v(0) = λ/2m: up to m spikes of λ/m per step.

    A step carries m levels, so T steps carry as much as T m binary steps: compare at equal T m.
    Source: Lv et al. 2024 (group neuron), "Optimal ANN-SNN conversion with group neurons", from its code.
    Differs from the paper: nothing in the conversion; its "T" does not count the m levels, which the alphabet states
    here. Checked: m neurons with thresholds i λ/m and a common membrane, stepped one by one, give the same spikes; with
    one member it is QCFS (tests/recipes/test_multi_threshold.py).
    """

    name: ClassVar[str] = "group-neuron"
    timesteps: int = setting(8, "Time steps.")
    members: int = setting(4, "Neurons per group: the levels per time step.")

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseGroups(self.members)


@dataclass(frozen=True)
class HMT(GaussianCoded):
    """n = ``threshold_count`` thresholds λ, λ/2 … λ/2^{n−1}, any subset of which fires: 2^n levels per step.

    Thresholds have the least squared error with 2^n − 1 levels for Gaussian currents in each channel; v(0) is half the
    lowest threshold. Compare at equal levels: T steps of 2^n − 1.
    Source: Zhang et al. 2026 (H-MT, AAAI), sections 3 and 4 and its appendix.
    Differs from the paper: only neurons for ReLUs; its pairs of positive and negative neurons represent y = x, which
    does not occur in CNNs with ReLUs.
    Checked: greedy firing from the top threshold down gives the same spikes, at most n per step; its thresholds have
    the least squared error on Gaussian currents, at its number of levels (tests/recipes/test_multi_threshold.py).
    """

    name: ClassVar[str] = "h-mt"
    threshold_count: int = setting(4, "Number of thresholds per neuron.")

    @property
    def thresholds(self) -> Pass:
        check_threshold_count(self.threshold_count)
        levels = 2**self.threshold_count - 1
        return GaussianThresholds(self.granularity, self.readout.spiking_output, 1.0, levels, self.iterations)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(0.5),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseMultiThresholds(self.threshold_count, "any")


@dataclass(frozen=True)
class DCGS(GaussianCoded):
    """Differential coding: neurons send the change of their estimate, scaled by 1/t in step t.

    A neuron sends at most one of n = ``threshold_count`` signed thresholds per step; thresholds by iteration on
    Gaussian currents (``levels`` levels). A neuron in the place of another function of one value than a ReLU (SiLU,
    GELU, a clip …) integrates the error of that value, and its highest threshold is the 99.9th percentile of the
    absolute activations; a remark names these layers, the others keep the ReLU's neuron. Other operators remain
    analogue and send differences, without asking, and weights after them get a neuron in front, except after maximum
    pooling. Constant input and biases are added once. The paper's additional step that measures biases is not needed,
    because they are known: T steps are T.
    Source: Huang et al. 2025 (DCGS, ICML), "Differential coding for training-free ANN-to-SNN conversion", from its
    code.
    Differs from the paper: its threshold iteration stops after a hundred rounds, before convergence; ours continues.
    Its maximum pooling (exact for windows that do not overlap) is not implemented.
    Checked: it is equivalent to rate coding with signed thresholds: estimates are the rates of neurons that send
    ``s + r``, step by step; thresholds as for H-MT (tests/recipes/test_multi_threshold.py).
    """

    name: ClassVar[str] = "dcgs"
    keeps_operators: ClassVar[bool] = True
    timesteps: int = setting(8, "Time steps.")
    pooling: PoolingRule = setting("differences", "Rule for maximum pooling in time.")
    schedule: Schedule = setting(Differences(), "Schedule: differences.")
    threshold_count: int = setting(8, "Number of thresholds per neuron.")
    levels: int = setting(64, "Levels that the thresholds are fitted to.")

    @property
    def recognitions(self) -> tuple[Pass, ...]:
        return (*super().recognitions, RecogniseFunctions())

    @property
    def rewrites(self) -> tuple[Pass, ...]:
        return (FoldLayerNorm(), ProductsOfWires(), NeuronsForFunctions(), EncodeWires(behind="analogue"))

    @property
    def thresholds(self) -> Pass:
        check_threshold_count(self.threshold_count)
        return GaussianThresholds(self.granularity, self.readout.spiking_output, 1.0, self.levels, self.iterations)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseMultiThresholds(self.threshold_count, "differences")
