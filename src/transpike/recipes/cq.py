"""Recipes for networks trained with a clamp and one level per time step."""

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

    Plain integrate-and-fire neurons, streaming; with a layer-synchronous ``schedule`` the averaging neuron, which
    integrates its whole window first and whose counts are the source network's levels. Train with
    ``activations.ClampQuantise`` on activations, average pools (``prepare(pools=True)``) and, for an input of spikes,
    on the input. Source: Yan, Zhou, Wong 2021 (AAAI), from their code (shenjingcat).
    Differs from the paper: λ may be any range fixed before training (the paper's is 1, equal up to the scale of the
    weights); v(0) is slightly above 0, so that ties fire, instead of θ = 0.999 (which ``slack`` gives); the output
    layer is read as currents; ``weight_bits`` scales by the layer's largest weight and does not round biases.
    Checked: layer-synchronous with T levels, without the grid that rounds weights, the counts equal the source
    network's levels, including ties of pools and of the input, also where T is not a power of two; streaming they do
    not (tests/recipes/test_cq.py).
    """

    name: ClassVar[str] = "cq"
    slack: float = setting(0.0, "Share by which thresholds are lowered; spike scales do not change.")

    @property
    def shifts(self) -> tuple[Pass, ...]:
        slack = (SlackThresholds(self.slack),) if self.slack else ()
        return (*super().shifts, *slack)


@dataclass(frozen=True)
class CQPlus(CQ):
    """CQ+: CQ with threshold training, which fits the mean output of each channel to the source network.

    ``θ_c ← θ_c √(s̄_c/ā_c)`` layer by layer on calibration data; spike scales do not change.
    Source: Yan, Zhou, Wong 2023 (TPAMI 45:11600), from their code (CQ-PLUS-Training).
    Differs from the paper: a faster rule with the same fixed point (``passes.TrainThresholds``). Parameterised input
    encoding is a source activation with a trainable threshold on the input (``prepare(input=QuantisedClip(T))``).
    Checked: on the calibration data the mean rate of each channel is close to the source's, and without the training
    it is not (tests/recipes/test_cq.py).
    """

    name: ClassVar[str] = "cq-plus"
    calibrate: Literal["none", "thresholds", "potential", "both"] = setting(
        "thresholds",
        "Correction on simulated spikes: thresholds; initial potentials; biases and potentials (both).",
    )


@dataclass(frozen=True)
class VR(CQ):
    """VR-encoding: ``a = ⌊min(max(z, 0), T/L) L⌋ / L`` becomes averaging neurons with θ = T/L and spike scale T/L.

    T steps carry levels of width 1/L, finer than 1/T. Layer-synchronous: the counts are the source network's levels.
    Train with ``activations.ValueRange(T, L)``; ``activations.ExpandedInput`` expands the input's channels.
    Source: Yan, Zhou, Wong 2022 (arXiv 2211.08410), from their code (Low-latency-SNNs).
    Differs from the paper: as CQ; the latency of the averaging neuron, one window per layer, is counted. Threshold
    training for plain neurons is ``CQPlus``.
    Checked: as CQ, with (T, L) = (8, 10) and its published values (tests/recipes/test_cq.py).
    """

    name: ClassVar[str] = "vr"
    timesteps: int = setting(8, "Time steps.")
    schedule: Schedule = setting(LayerSynchronous(), "Schedule: streaming, or window by window.")
