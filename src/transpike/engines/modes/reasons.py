"""Why networks with schedules other than streaming have no event kernels."""

from transpike.core.schedule import MOST_STEPS
from transpike.lowering.program import Program


def why_dense(program: Program) -> str:
    """The reason, or "" for a network that streams."""
    schedule = program.schedule
    if schedule.mode == "steps":
        return ""
    if schedule.mode == "cycles":
        return "a phase cycle is one pass over all its steps"
    if schedule.mode == "differences":
        if schedule.gain == "unit":
            return "sigma-delta layers have separate kernels"
        return "differences that are divided by their step number are not on a grid"
    if schedule.lag(MOST_STEPS) < MOST_STEPS or program.single_steps:
        return "layers that fire before their window is complete run step by step"
    return "a window is one pass over all its steps"
