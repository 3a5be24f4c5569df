"""A combination of methods for few binary spikes."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.errors import SettingError
from transpike.passes import (
    InitialPotential,
    ReplaceNeurons,
    SquaredErrorThresholds,
    UseNeurons,
)
from transpike.passes.neurons.use_neurons import NeuronKind
from transpike.readouts import DelayedWindow
from transpike.recipes._base import Calibrate, LinearWired, LinearWires, calibrations, linear_wires, setting
from transpike.training.spiking.reconstruction import Reconstruct

Reconstruction = Literal["none", "layer", "network"]


@dataclass(frozen=True)
class FewSteps(LinearWired):
    """Thresholds of least squared error, v(0) = θ/2, calibrated biases and potentials, and a delayed readout.

    Biases, then initial potentials are calibrated on simulated spikes; the readout excludes the first quarter of the
    steps. ``θ = argmin Σ (a − θ/T · clip(⌊a T/θ + ½⌋, 0, T))²`` per channel; ``b ← b + mean(a − φ)``;
    ``v(0) ← v(0) + T mean(a − φ)``; ``logits = Σ_{T/4 < t ≤ T} I(t)``. Binary spikes, streaming, no training.
    Source: transpike's own combination of Li et al. 2021 (thresholds, calibrations), Bu et al. 2022 (v(0) = θ/2) and
    Bu et al. 2025 (delayed readout); ``neuron`` "signed" uses negative spikes by Fast-SNN's rule, "burst" sends up to
    ``gamma`` spikes per step. The combination was selected on training images.
    ``reconstruct`` "network" then trains weights, thresholds and potentials end to end, without labels, so that the
    answers and the layers follow the source network on the calibration inputs (``training.Reconstruct``): minutes
    instead of seconds, and a fraction of the loss at 8 steps (docs/few-steps.md). 1,024 inputs are a good number.
    Checked: after the first layer, whose input is exact, calibration removes more than two thirds of the mean error
    of a channel, and each of the two corrections alone removes less; thresholds fit the rounding staircase
    (tests/recipes/test_few_steps.py). benchmarks/methods.py measures the effect of each part (ablation;
    docs/methods.md).
    """

    name: ClassVar[str] = "few-steps"
    readout: Readout = setting(DelayedWindow(share=0.25), "Output readout.")
    neuron: NeuronKind = setting("integrate-and-fire", "Neuron: integrate-and-fire, signed or burst.")
    gamma: int = setting(4, "Maximum number of spikes per burst and time step.")
    calibrate: Calibrate = setting("both", "Correction on simulated spikes.")
    samples: int = setting(128, "Number of simulated calibration inputs.")
    linear_wires: LinearWires = linear_wires("merge")
    reconstruct: Reconstruction = setting(
        "none", "Training without labels, to follow the source: each layer alone, or the network at once."
    )
    iterations: int = setting(1000, "Optimiser steps of the reconstruction.")
    learning_rate: float = setting(0.01, "Step of the reconstruction, relative to the size of a parameter.")

    def __post_init__(self) -> None:
        if self.neuron == "bistable":
            raise SettingError("bistable neurons need phase cycles: use the recipe bsnn")
        if self.reconstruct not in get_args(Reconstruction):
            raise SettingError(f"reconstruct must be 'none', 'layer' or 'network', not {self.reconstruct!r}")
        if self.reconstruct != "none" and self.weight_bits is not None:
            raise SettingError(
                "a reconstruction would undo the quantisation by weight_bits: use reconstruct='none', or "
                "weight_bits=None"
            )
        super().__post_init__()
        if not 1 <= self.gamma <= 255:
            raise SettingError(f"gamma must be between 1 and 255, not {self.gamma}")

    @property
    def depends_on_timesteps(self) -> bool:
        return True

    @property
    def thresholds(self) -> Pass:
        spiking = self.readout.spiking_output
        gamma = self.gamma if self.neuron == "burst" else 1
        return SquaredErrorThresholds(self.granularity, spiking, gamma=gamma, shift=0.5, samples=self.samples)

    @property
    def shifts(self) -> tuple[Pass, ...]:
        return (InitialPotential(0.5),)

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseNeurons(self.neuron, rule="fast-snn", gamma=self.gamma)

    @property
    def corrections(self) -> tuple[Pass, ...]:
        corrected = calibrations(self.calibrate, self.samples)
        if self.reconstruct == "none":
            return corrected
        return (*corrected, Reconstruct(self.reconstruct, self.readout, self.iterations, self.learning_rate))
