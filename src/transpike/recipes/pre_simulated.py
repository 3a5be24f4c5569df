"""Recipes that hear an input once before they answer it: what they learn of it is for this input alone."""

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
    """τ = ``pre_simulation_steps`` steps of a QCFS network; then every neuron starts anew, and those whose residual potential was
    not above ``margin`` θ stay silent: their source's activation is 0. Only the steps after the τ are read.

    ``timesteps`` counts the pre-simulation: T = τ + what the paper calls T; answers after fewer steps are the pre-simulation's.
    A gate that closed on a neuron whose activation is positive stays closed: accuracy settles below the source's.
    Source: Hao, Bu, Ding, Huang, Yu 2023 (SRP, AAAI), "Reducing ANN-SNN conversion error through residual membrane
    potential", section 4, from its code. Differs from the paper: the steps of both phases are counted.
    Checked: a neuron of figure 1 whose spikes came too early, with source activation 0, is silent after the pre-simulation
    and fires without the gate; T steps are τ + (T − τ) (tests/recipes/test_pre_simulated.py).
    """

    name: ClassVar[str] = "srp"
    timesteps: int = setting(12, "Steps that the network is made for, the pre-simulation included.")
    readout: Readout = setting(AfterPreSimulation(), "How the answer is read.")
    pre_simulation_steps: int = setting(4, "Steps that are run before, of which only the gate is kept.")
    margin: float = setting(1e-3, "The residual that opens the gate, as a share of the threshold.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule.mode != "steps":
            raise SettingError("SRP's neurons start anew in the middle of a run: they need the streaming schedule")
        if self.timesteps <= self.pre_simulation_steps:
            raise SettingError(
                f"{self.timesteps} steps leave nothing after a pre-simulation of {self.pre_simulation_steps}: use more timesteps, "
                "which count the pre-simulation, or a shorter one"
            )

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseGates(self.pre_simulation_steps, self.margin)

    @property
    def pools(self) -> PoolInTime:
        return PoolInTime(self.pooling, pre_simulation_steps=self.pre_simulation_steps)


@dataclass(frozen=True)
class COS(LearnedCoded):
    """Each layer hears ρ = ``pre_simulation_steps`` steps, finds by how much its first potentials were off, and runs on the same
    input with better ones, ρ steps late.

    A layer costs ρ steps: ``total_steps = n ρ + T`` for n neurons on the longest path. Shortcuts wait as long. The
    theorems look at all T steps, ρ = T; a shorter pre-simulation corrects by what it cannot know yet.
    Source: Hao, Ding, Bu, Huang, Yu 2023 (COS, ICLR), "Bridging the gap between ANNs and SNNs by calibrating offset
    spikes", theorems 1 and 2, from its code.
    Differs from the paper: the steps of all layers are counted (it counts ρ once, or not); T is at least ρ, for a layer
    cannot rehearse what the one before does not send; ``rounds`` repeats the correction, which its code has commented
    out.
    Checked: on the unevenness vectors of QCFS each round brings a wrong count one spike nearer, and counts that are
    right stay; at ρ = T layers come to within a hundredth of streaming's distance from the staircase
    (tests/recipes/test_pre_simulated.py).
    """

    name: ClassVar[str] = "cos"
    timesteps: int = setting(4, "Steps that the network is made for, without the pre-simulations.")
    schedule: Schedule = setting(LayerSynchronous(wait_steps=4), "When neurons fire: held for the pre-simulation.")
    pre_simulation_steps: int = setting(4, "Steps that each layer tries first.")
    margin: float = setting(1e-3, "By how much a spike is missed or caught, as a share of the threshold.")
    rounds: int = setting(1, "Corrections, one spike each.")

    def __post_init__(self) -> None:
        if self.calibrate != "none":
            raise SettingError(
                "COS corrects each neuron for each input as it runs, and corrections on calibration data know no such "
                f"neurons: calibrate must be 'none', not {self.calibrate!r}"
            )
        super().__post_init__()
        held = isinstance(self.schedule, LayerSynchronous) and self.schedule.wait_steps == self.pre_simulation_steps
        if not held or self.timesteps < self.pre_simulation_steps:
            raise SettingError(
                f"COS holds each window for its pre-simulation of {self.pre_simulation_steps} steps and needs at least as many time "
                f"steps: use schedule=LayerSynchronous(wait_steps={self.pre_simulation_steps}) and timesteps from {self.pre_simulation_steps} on"
            )

    @property
    def neurons(self) -> ReplaceNeurons:
        return UseOffsets(self.pre_simulation_steps, self.margin, self.rounds)

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (*super().passes, MatchDelays(period=0))
