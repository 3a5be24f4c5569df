"""Recipes for networks that were trained with a clamp and as many levels as there are time steps."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transpike.core.pass_ import Pass
from transpike.core.schedule import Schedule
from transpike.passes import SlackThresholds
from transpike.recipes._base import LearnedCoded, setting
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True)
class CQ(LearnedCoded):
    """Clamping and quantisation: ``a = ⌊min(max(z, 0), λ) T/λ⌋ λ/T`` becomes θ = λ, v(0) = 0, T steps.

    Plain integrate-and-fire neurons, streaming; with ``schedule`` layer-synchronous the averaging neuron, which hears
    its whole window first and whose counts are the source network's levels. Train with ``activations.ClampQuantise``
    on activations, average pools (``prepare(pools=True)``) and, for an input of spikes, on the input.
    Source: Yan, Zhou, Wong 2021 (AAAI), from their code (shenjingcat).
    Differs from the paper: λ may be any range fixed before training (the paper's is 1, the same but for the weights'
    scale); v(0) is a little more than 0, so that ties cannot be lost, in place of θ = 0.999 (``slack`` gives that); the
    output layer is read as currents; ``weight_bits`` rounds with the layer's largest weight as full scale, biases stay.
    Checked: layer-synchronous at T levels and off the grid, which rounds weights, the counts are the source network's
    levels, ties of pools and of the input included, also where T is not a power of two; streaming they are not
    (tests/recipes/test_cq.py).
    """

    name: ClassVar[str] = "cq"
    slack: float = setting(0.0, "Lowers thresholds by this share, their spikes' worth unchanged.")

    @property
    def shifts(self) -> tuple[Pass, ...]:
        slack = (SlackThresholds(self.slack),) if self.slack else ()
        return (*super().shifts, *slack)


@dataclass(frozen=True)
class CQPlus(CQ):
    """CQ+: CQ with threshold training, which makes each channel of plain neurons send what the source network does.

    ``θ_c ← θ_c √(s̄_c/ā_c)`` layer by layer on calibration data, a spike's worth unchanged.
    Source: Yan, Zhou, Wong 2023 (TPAMI 45:11600), from their code (CQ-PLUS-Training).
    Differs from the paper: a faster rule with the same fixed point (``steps.TrainThresholds``). Parameterised input
    encoding is a source activation with a trainable threshold on the input (``prepare(input=QuantisedClip(T))``).
    Checked: the mean rate of each channel comes near the source's on the calibration data, which it
    is not without the training (tests/recipes/test_cq.py).
    """

    name: ClassVar[str] = "cq-plus"
    calibrate: Literal["none", "thresholds", "potential", "both"] = setting(
        "thresholds",
        "What is corrected on simulated spikes: thresholds; initial potentials; biases and potentials (both).",
    )


@dataclass(frozen=True)
class VR(CQ):
    """VR-encoding: ``a = ⌊min(max(z, 0), T/L) L⌋ / L`` becomes averaging neurons with θ = T/L and spikes of that worth.

    T steps carry levels of width 1/L, finer than 1/T. Layer-synchronous: the counts are the source network's levels.
    Train with ``activations.ValueRange(T, L)``; ``activations.ExpandedInput`` expands the input's channels.
    Source: Yan, Zhou, Wong 2022 (arXiv 2211.08410), from their code (Low-latency-SNNs).
    Differs from the paper: as CQ; the latency of the averaging neuron, a window for each layer, is counted. Threshold
    training for plain neurons is ``CQPlus``.
    Checked: as CQ, with (T, L) = (8, 10) and its published values (tests/recipes/test_cq.py).
    """

    name: ClassVar[str] = "vr"
    timesteps: int = setting(8, "Steps that the network is made for.")
    schedule: Schedule = setting(LayerSynchronous(), "When neurons fire: as input arrives, or window by window.")
