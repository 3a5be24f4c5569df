"""Recipes whose neurons have several thresholds: groups, ladders, and ladders of differences."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.neurons.multi_threshold import check_threshold_count
from transpike.passes import GaussianThresholds, InitialPotential, ReplaceNeurons, UseGroups, UseMultiThresholds
from transpike.passes.rewrites.pooling import PoolingRule
from transpike.recipes._base import GaussianCoded, LearnedCoded, setting
from transpike.schedules import Differences


@dataclass(frozen=True)
class GroupNeuron(LearnedCoded):
    """m = ``members`` neurons on one membrane, thresholds λ/m … λ, v(0) = λ/2m: up to m spikes of λ/m in a step.

    A step carries m levels, so that T steps say what T m binary ones do: compare it at equal T m.
    Source: Lv et al. 2024 (group neuron), "Optimal ANN-SNN conversion with group neurons", from its code.
    Differs from the paper: nothing in the conversion; its "T" hides the m levels, which the alphabet says here.
    Checked: m neurons of thresholds i λ/m that share a membrane, stepped one by one, send what it sends; with one
    member it is QCFS (tests/recipes/test_multi_threshold.py).
    """

    name: ClassVar[str] = "group-neuron"
    timesteps: int = setting(8, "Steps that the network is made for.")
    members: int = setting(4, "Neurons of a group: the levels of a step.")

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseGroups(self.members)


@dataclass(frozen=True)
class HMT(GaussianCoded):
    """n = ``threshold_count`` thresholds λ, λ/2 … λ/2^{n−1}, any of which fire together: a step carries 2^n levels in n spikes.

    Thresholds of least squared error for 2^n − 1 stairs under Gaussian currents of each channel, v(0) = half the
    lowest. Compare it at equal levels: T steps of 2^n − 1.
    Source: Zhang et al. 2026 (H-MT, AAAI), sections 3 and 4 and its appendix.
    Differs from the paper: only neurons for ReLUs; its twins of positive and negative neurons stand for y = x, which
    CNNs of ReLUs do not have.
    Checked: greedy firing from the top threshold down, one by one, sends what it sends, in at most n spikes a step;
    its thresholds have the least squared error on Gaussian currents, at its own number of
    stairs (tests/recipes/test_multi_threshold.py).
    """

    name: ClassVar[str] = "h-mt"
    threshold_count: int = setting(4, "Thresholds of a neuron.")

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
    """Differential coding: neurons send by how much their estimate must move, one signed threshold of n = ``threshold_count`` a
    step, worth 1/t of it in step t; thresholds by iteration on Gaussian currents (``levels`` stairs).

    Constant input and biases come once. The paper's extra step that measures biases is not needed, since they are
    known: T steps are T. Maximum pooling stays analogue.
    Source: Huang et al. 2025 (DCGS, ICML), "Differential coding for training-free ANN-to-SNN conversion", from its
    code.
    Differs from the paper: its iteration of thresholds stops after a hundred rounds, before it has settled; ours goes
    on. Its maximum pooling (which is exact where windows do not overlap) is not built.
    Checked: it is rate coding with signed ladders in other letters: estimates are the rates of neurons that send
    ``s + r``, step by step; thresholds as H-MT's (tests/recipes/test_multi_threshold.py).
    """

    name: ClassVar[str] = "dcgs"
    timesteps: int = setting(8, "Steps that the network is made for.")
    pooling: PoolingRule = setting("differences", "How maximum pooling works in time.")
    schedule: Schedule = setting(Differences(), "When neurons fire: as differences arrive.")
    threshold_count: int = setting(8, "Thresholds of a neuron.")
    levels: int = setting(64, "Stairs that the thresholds are made for.")

    @property
    def thresholds(self) -> Pass:
        check_threshold_count(self.threshold_count)
        return GaussianThresholds(self.granularity, self.readout.spiking_output, 1.0, self.levels, self.iterations)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseMultiThresholds(self.threshold_count, "differences")
