"""Signed neurons with memory."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.neurons.signed import NegativeRule
from transpike.passes import Granularity, InitialPotential, RefuseLevels, ReplaceNeurons, UseNeurons
from transpike.recipes._base import LearnedCoded, PercentileThresholded, setting
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True)
class SNM(PercentileThresholded):
    """A neuron that fired too early sends negative spikes; the threshold of a neuron is its largest activation.

    ``rule`` selects one of the published conditions for a negative spike (``neurons.SignedIntegrateAndFire``).
    Source: Wang, Zhang, Chen, Qu 2022 (IJCAI), "Signed neuron with memory", sections 3.2 and 3.3 (neuron-wise
    normalisation), and the authors' code.
    Differs from the paper: the maximum runs over the whole batch (the code keeps one per position in a batch); the
    last layer accumulates instead of firing.
    Checked: on the unevenness vectors of QCFS (figure 1) one more step without input gives the source's count; without
    negative spikes the count remains too high; after the five steps alone it may be too high or too low, because a step
    sends only one negative spike. On images almost no neuron ends with spikes without charge; its threshold is its
    largest activation (tests/recipes/test_snm.py).
    """

    name: ClassVar[str] = "snm"
    granularity: Granularity = setting("neuron", "One threshold per layer, channel or neuron.")
    percentile: float = setting(100.0, "Percentile of each layer's activations used as threshold; 100 is the maximum.")
    beta: float = setting(0.0, "Initial potential as a share of the threshold.")
    rule: NegativeRule = setting("snm", "Condition for a negative spike.")
    depth: float = setting(0.0, "Negative threshold −depth θ of the rule dual.")

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(self.beta),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule=self.rule, depth=self.depth)


@dataclass(frozen=True)
class FastSNN(LearnedCoded):
    """``θ`` = the range α of a b-bit activation, v(0) = θ/2, T = 2^b − 1 steps, negative spikes below v = 0.

    Train with ``activations.UniformQuantiser(bits)``. ``calibrate`` corrects layer by layer without training; the
    paper's fine-tuning of weights is ``transpike finetune --preset fast-snn``.
    Source: Hu, Zheng, Jiang, Pan 2023 (Fast-SNN, IEEE TPAMI), section 4, from its code.
    Differs from the paper: a negative spike is sent at m < 0 (the code compares with −0.001); weights need not be
    powers of two.
    Checked: on the unevenness vectors of QCFS the count returns to the source's within two silent steps, whereas SNM
    waits for −θ; layer-synchronous at T = 2^b − 1 its counts are its source's levels (tests/recipes/test_clipped.py).
    """

    name: ClassVar[str] = "fast-snn"
    timesteps: int = setting(3, "Time steps: 2^b − 1 for activations of b bits.")

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule="fast-snn")


@dataclass(frozen=True)
class ErrorCompensation(LearnedCoded):
    """``θ`` = the trained clip, v(0) = θ/2, and a second threshold −``depth`` θ for negative spikes.

    Train with ``activations.TrainableClip``.
    Source: Liu 2025 (error compensation, ICML), dual-threshold neurons, learned clips, v(0) = θ/2. **The negative
    threshold and the modified update of the potential are unpublished**: ``depth`` is a setting, 0 by default, which is
    Fast-SNN's rule, and the update is the usual one.
    Differs from the paper: see Source.
    Checked: a neuron sends a negative spike below −depth θ, and none at −depth θ; with depth 0 it equals Fast-SNN's
    neurons (tests/recipes/test_clipped.py).
    """

    name: ClassVar[str] = "error-compensation"
    depth: float = setting(0.0, "The negative threshold is −depth θ.")

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule="dual", depth=self.depth)


@dataclass(frozen=True)
class PASCAL(LearnedCoded):
    """Spikes that equal the quantised source network: layers integrate T = L steps, settle in T − 1 more, then fire.

    Train with ``activations.QuantisedClip(L)``; T must equal L. A neuron fires during integration; then, without input,
    it sends +1 while v ≥ θ and −1 while v < 0, at most T − 1 times. The final count, clipped at 0, is
    ``clip(⌊(Q + v(0)) / θ⌋, 0, T)`` for any order of arrival. The neuron sends that count in T steps.
    ``total_steps = n (2 T − 1) + T`` for n neurons on the longest path.
    Source: Ramesh and Srinivasan 2025 (PASCAL, TMLR), algorithm 1, from its code.
    Differs from the paper: one T for all layers (the paper chooses levels layer by layer, by a metric that is not
    defined in our sources; windows here have one length); its T_eff, a mean over layers, is not reported; the first
    layer is treated like the others. ``membrane updates`` count the 2 T − 1 steps in which a neuron integrates and
    settles.
    Checked: counts of each layer and outputs equal the source's bit for bit on the exact grid; neurons that settle for
    T − 2 steps, or not at all, do not (tests/recipes/test_pascal.py).
    """

    name: ClassVar[str] = "pascal"
    timesteps: int = setting(4, "Time steps: the number of levels of the activations.")
    schedule: Schedule = setting(LayerSynchronous(settle=True), "Schedule: window by window.")

    @property
    def checks(self) -> tuple[Pass, ...]:
        return (RefuseLevels(),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule="pascal")
