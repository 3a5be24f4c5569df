"""When the layers of a whole-number network add what is constant and when they fire, by the schedule of the program."""

from transpike.core.schedule import depths
from transpike.errors import SettingError, UnsupportedModel
from transpike.lowering.program import Program
from transpike.lowering.whole import Timing


class Times:
    """The steps of a run of T ``timesteps``: ``steps`` in all, the ``divisor`` of the totals, and the ``window``."""

    def __init__(self, program: Program, timesteps: int) -> None:
        self.schedule, self.timesteps = program.schedule, timesteps
        self.steps, self.divisor, self.window = timesteps, 0, 0
        self.starts = dict.fromkeys(program.table, 0)
        if self.schedule.mode == "differences":
            self.divisor = 1
        if self.schedule.mode == "windows":
            lag = self.schedule.lag(timesteps)
            self.starts = {name: depth * lag for name, depth in depths(program.lowered.nodes).items()}
            self.steps = self.starts[program.lowered.output.name] + timesteps
            self.divisor = self.window = timesteps

    def of(self, name: str) -> Timing | None:
        """The timing of the layer ``name``; None if it is always active."""
        if self.schedule.mode == "differences":  # what is constant arrives once
            found = Timing((0, 1), (0, 1), (0, self.steps))
        else:
            lag = self.schedule.lag(self.timesteps) if self.window else 0
            start, length = self.starts[name], self.timesteps
            found = Timing((start, start + length), (0, length), (start + lag, start + lag + length))
        return None if {found.bias, found.currents, found.fires} == {(0, self.steps)} else found


def check_schedule(program: Program) -> None:
    """Raises UnsupportedModel for a schedule that has no whole-number form."""
    schedule, readout = program.schedule, program.readout
    whole = schedule.mode in ("steps", "windows") or (schedule.mode == "differences" and schedule.gain == "unit")
    if not whole or getattr(schedule, "settle", False):
        way = "convert with schedule=LayerSynchronous(), or " if schedule.mode == "windows" else ""
        raise UnsupportedModel(
            f"{schedule} has no whole-number form, only streaming, windows without settling, and differences of unit "
            f"gain have: {way}use a streaming recipe, such as ecc or few-steps"
        )
    if schedule.mode != "steps" and readout.every_step:
        raise UnsupportedModel(
            f"the readout {type(readout).__name__} excludes single steps, which has no whole-number form under "
            f"{schedule}: convert with readout=AccumulatedMembrane()"
        )


def check_steps(program: Program, window: int, steps: int, timesteps: int) -> None:
    """Raises SettingError for a run of another length than a network with windows has, or a longer one."""
    if window and timesteps != steps:
        raise SettingError(f"a network with windows of {window} steps runs for {steps} steps, not {timesteps}")
    if not 1 <= timesteps <= steps:
        raise SettingError(f"timesteps must be from 1 to {steps}, those of the whole-number form")
