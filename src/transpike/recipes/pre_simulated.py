"""Recipes with a pre-simulation of each input, whose result is used for this input only."""

from dataclasses import dataclass
from typing import ClassVar

from transpike.core.pass_ import Pass
from transpike.core.readout import Readout
from transpike.core.schedule import Schedule
from transpike.errors import SettingError
from transpike.passes import MatchDelays, PoolInTime, ReplaceNeurons, UseGates, UseOffsets
from transpike.readouts import AfterPreSimulation
from transpike.recipes._base import LearnedCoded, setting
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True)
class SRP(LearnedCoded):
    """A QCFS network that silences neurons by their residual potential after τ = ``pre_simulation_steps`` steps.

    After τ steps every neuron restarts, and neurons whose residual potential was not above ``margin`` θ remain silent,
    because their source activation is 0. Only the steps after τ are read. ``timesteps`` includes the pre-simulation:
    T = τ + the paper's T; outputs before that are those of the pre-simulation. A neuron with a positive activation that
    was silenced remains silent, so accuracy converges to a value below the source's.
    Source: Hao, Bu, Ding, Huang, Yu 2023 (SRP, AAAI), "Reducing ANN-SNN conversion error through residual membrane
    potential", section 4, from its code. Differs from the paper: the steps of both phases are counted.
    Checked: a neuron of figure 1 whose spikes came too early, with source activation 0, is silent after the
    pre-simulation and fires without the gate; T steps are τ + (T − τ) (tests/recipes/test_pre_simulated.py).
    """

    name: ClassVar[str] = "srp"
    timesteps: int = setting(12, "Time steps, including the pre-simulation.")
    readout: Readout = setting(AfterPreSimulation(), "Output readout.")
    pre_simulation_steps: int = setting(4, "Steps of the pre-simulation, which determines the silent neurons.")
    margin: float = setting(1e-3, "Residual above which a neuron may fire, as a share of the threshold.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule.mode != "steps":
            raise SettingError("SRP's neurons restart during a run: use schedule=Streaming()")
        if self.timesteps <= self.pre_simulation_steps:
            raise SettingError(
                f"timesteps={self.timesteps} includes the {self.pre_simulation_steps} steps of the pre-simulation; no "
                "step remains: use more timesteps or fewer pre_simulation_steps"
            )

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseGates(self.pre_simulation_steps, self.margin)

    @property
    def pools(self) -> PoolInTime:
        return PoolInTime(self.pooling, pre_simulation_steps=self.pre_simulation_steps)


@dataclass(frozen=True)
class COS(LearnedCoded):
    """Each layer corrects its initial potentials in a pre-simulation of ρ = ``pre_simulation_steps`` steps.

    The layer then runs on the same input with the corrected potentials, ρ steps later:
    ``total_steps = n ρ + T`` for n neurons on the longest path. Shortcuts are delayed equally. The theorems assume
    ρ = T; a shorter pre-simulation gives a less accurate correction.
    Source: Hao, Ding, Bu, Huang, Yu 2023 (COS, ICLR), "Bridging the gap between ANNs and SNNs by calibrating offset
    spikes", theorems 1 and 2, from its code.
    Differs from the paper: the steps of all layers are counted (it counts ρ once or never); T is at least ρ, because
    the pre-simulation of a layer needs ρ steps of input; ``rounds`` repeats the correction, which is commented out in
    its code.
    Checked: on the unevenness vectors of QCFS each round moves a wrong count one spike closer, and correct counts do
    not change; at ρ = T the distance of layers from the staircase is less than a hundredth of that when streaming
    (tests/recipes/test_pre_simulated.py).
    """

    name: ClassVar[str] = "cos"
    timesteps: int = setting(4, "Time steps, without the pre-simulations.")
    schedule: Schedule = setting(
        LayerSynchronous(wait_steps=4), "Schedule: windows with wait steps for the pre-simulation."
    )
    pre_simulation_steps: int = setting(4, "Steps of each layer's pre-simulation.")
    margin: float = setting(1e-3, "Deviation of the residual that is corrected, as a share of the threshold.")
    rounds: int = setting(1, "Number of corrections by one spike.")

    def __post_init__(self) -> None:
        if self.calibrate != "none":
            raise SettingError(
                "COS corrects neurons for each input during the run, which calibration on data does not support: "
                f"calibrate must be 'none', not {self.calibrate!r}"
            )
        super().__post_init__()
        steps = self.pre_simulation_steps
        fits = isinstance(self.schedule, LayerSynchronous) and self.schedule.wait_steps == steps
        if not fits or self.timesteps < steps:
            raise SettingError(
                f"COS needs as many wait steps as pre-simulation steps ({steps}), and at least as many time steps: use "
                f"schedule=LayerSynchronous(wait_steps={steps}) and timesteps >= {steps}"
            )

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseOffsets(self.pre_simulation_steps, self.margin, self.rounds)

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (*super().passes, MatchDelays(period=0))
