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
    """A neuron that has fired too early takes spikes back; one threshold a neuron, its largest activation.

    ``rule`` chooses among the published conditions for a negative spike (``neurons.SignedIntegrateAndFire``).
    Source: Wang, Zhang, Chen, Qu 2022 (IJCAI), "Signed neuron with memory", sections 3.2 and 3.3 (neuron-wise
    normalisation), and the authors' code.
    Differs from the paper: the maximum runs over the whole batch (the code keeps one for each slot of a batch); the
    last layer accumulates instead of firing.
    Checked: on the unevenness vectors of QCFS (figure 1) one more step without input brings the count to the source's
    value, where without negative spikes it stays too high; after the five steps alone it may lie on either side, since
    a step takes back one spike. On images hardly a neuron ends with spikes for which no charge came; its threshold is
    its own largest activation (tests/recipes/test_snm.py).
    """

    name: ClassVar[str] = "snm"
    granularity: Granularity = setting("neuron", "One threshold for each layer, channel or neuron.")
    percentile: float = setting(100.0, "Of each layer's activations: the threshold; 100 is the maximum.")
    beta: float = setting(0.0, "Initial potential as a share of the threshold.")
    rule: NegativeRule = setting("snm", "When a negative spike is due.")
    depth: float = setting(0.0, "Of the rule dual: the negative threshold is −depth θ.")

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(self.beta),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule=self.rule, depth=self.depth)


@dataclass(frozen=True)
class FastSNN(LearnedCoded):
    """``θ`` = the range α of a b-bit activation, v(0) = θ/2, T = 2^b − 1 steps, and below zero a spike is taken back.

    Train with ``activations.UniformQuantiser(bits)``. ``calibrate`` corrects layer by layer without training; the
    paper's fine-tuning of weights is ``transpike finetune --preset fast-snn``.
    Source: Hu, Zheng, Jiang, Pan 2023 (Fast-SNN, IEEE TPAMI), section 4, from its code.
    Differs from the paper: a spike is taken back at m < 0 (the code compares with −0.001); weights need not be of
    powers of two.
    Checked: on the unevenness vectors of QCFS the count is back at the source's within two silent steps, where SNM
    waits for −θ; layer-synchronous at T = 2^b − 1 its counts are its source's levels (tests/recipes/test_clipped.py).
    """

    name: ClassVar[str] = "fast-snn"
    timesteps: int = setting(3, "Steps that the network is made for: 2^b − 1 for activations of b bits.")

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule="fast-snn")


@dataclass(frozen=True)
class ErrorCompensation(LearnedCoded):
    """``θ`` = the clip that was trained, v(0) = θ/2, and a second threshold −``depth`` θ that takes a spike back.

    Train with ``activations.TrainableClip``.
    Source: Liu 2025 (error compensation, ICML), dual-threshold neurons, learned clips, v(0) = θ/2. **The negative
    threshold is unpublished**, and so is its modified update of the potential: ``depth`` is a setting, 0 by default,
    which is Fast-SNN's rule, and the update is the usual one.
    Differs from the paper: as said.
    Checked: a neuron whose potential falls below −depth θ takes a spike back, and at −depth θ keeps it; depth 0 sends
    what Fast-SNN's neurons do (tests/recipes/test_clipped.py).
    """

    name: ClassVar[str] = "error-compensation"
    depth: float = setting(0.0, "The negative threshold is −depth θ.")

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule="dual", depth=self.depth)


@dataclass(frozen=True)
class PASCAL(LearnedCoded):
    """The source network itself, in spikes: layers of T = L levels hear T steps, settle in T − 1 more, then send.

    Train with ``activations.QuantisedClip(L)``; T must be its L. A neuron fires as it hears; then, without input, it
    sends +1 while v ≥ θ and −1 while v < 0, T − 1 times at most, and the count it ends with, cut at 0, is
    ``clip(⌊(Q + v(0)) / θ⌋, 0, T)`` whatever the order of arrival. It sends that count in T steps.
    ``total_steps = n (2 T − 1) + T`` for n neurons on the longest path.
    Source: Ramesh and Srinivasan 2025 (PASCAL, TMLR), algorithm 1, from its code.
    Differs from the paper: one T for all layers (the paper chooses levels layer by layer, by a metric that we could
    not define; windows here have one length); its T_eff, a mean over layers, is not reported; the first layer is as the
    others. ``membrane updates`` count the 2 T − 1 steps in which a neuron hears and settles.
    Checked: counts, layer by layer, and answers equal the source's bit for bit on the exact grid; neurons that settle
    for T − 2 steps, or only fire as they hear, do not (tests/recipes/test_pascal.py).
    """

    name: ClassVar[str] = "pascal"
    timesteps: int = setting(4, "Steps that the network is made for: the levels of its activations.")
    schedule: Schedule = setting(LayerSynchronous(settle=True), "When neurons fire: window by window.")

    @property
    def checks(self) -> tuple[Pass, ...]:
        return (RefuseLevels(),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons("signed", rule="pascal")
