"""When the layers of an integer network add what is constant and when they fire, by the schedule of the program."""

from transpike.core.schedule import depths
from transpike.errors import SettingError, UnsupportedModel
from transpike.lowering.program import Program
from transpike.lowering.whole import Timing


class Times:
    """The steps of a run of T ``timesteps``: ``steps`` in all, the ``divisor`` of the totals, and the ``window``."""

    def __init__(self, program: Program, timesteps: int) -> None:
        self.schedule, self.timesteps = program.schedule, timesteps
        self.steps, self.divisor, self.window, self.lag = timesteps, 0, 0, 0
        self.starts = dict.fromkeys(program.table, 0)
        if self.schedule.mode == "differences":
            self.divisor = 1
        if self.schedule.mode == "windows":
            lag = self.schedule.lag(timesteps)
            self.starts = {name: depth * lag for name, depth in depths(program.lowered.nodes).items()}
            self.steps = self.starts[program.lowered.output.name] + timesteps
            self.divisor = self.window = timesteps
        if self.schedule.mode == "slots":
            self.lag = self.schedule.lag(timesteps)
            self.starts = {name: depth * self.lag for name, depth in depths(program.lowered.nodes).items()}
            self.steps = self.starts[program.lowered.output.name] + timesteps
            self.divisor, self.window = 1, timesteps

    def of(self, name: str) -> Timing | None:
        """The timing of the layer ``name``; None if it is always active, or has slots."""
        if self.schedule.mode == "slots":
            return None
        if self.schedule.mode == "differences":  # what is constant arrives once
            found = Timing((0, 1), (0, 1), (0, self.steps))
        else:
            lag = self.schedule.lag(self.timesteps) if self.window else 0
            start, length = self.starts[name], self.timesteps
            found = Timing((start, start + length), (0, length), (start + lag, start + lag + length))
        return None if {found.bias, found.currents, found.fires} == {(0, self.steps)} else found


def check_schedule(program: Program) -> None:
    """Raises UnsupportedModel for a schedule that has no integer form."""
    schedule, readout = program.schedule, program.readout
    reason = ""
    if schedule.gain == "reciprocal":
        reason = "what a message of step t adds is divided by t: use a recipe with unit gain, such as sigma-delta"
    elif getattr(schedule, "settle", False):
        reason = "neurons correct their count in silent steps: use schedule=LayerSynchronous() and unsigned neurons"
    elif schedule.mode not in ("steps", "windows", "differences", "slots"):
        reason = "only streaming, windows, time slots and differences of unit gain have: use a recipe such as ecc"
    if reason:
        raise UnsupportedModel(f"{schedule} has no integer form: {reason}")
    if schedule.mode != "steps" and readout.every_step:
        raise UnsupportedModel(
            f"the readout {type(readout).__name__} excludes single steps, which has no integer form under "
            f"{schedule}: convert with readout=AccumulatedMembrane()"
        )


def check_steps(program: Program, window: int, steps: int, timesteps: int) -> None:
    """Raises SettingError for a run of another length than a network with windows has, or a longer one."""
    if window and timesteps != steps:
        raise SettingError(f"a network with windows of {window} steps runs for {steps} steps, not {timesteps}")
    if not 1 <= timesteps <= steps:
        raise SettingError(f"timesteps must be from 1 to {steps}, those of the integer form")
