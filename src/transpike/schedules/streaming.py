"""Streaming: neurons fire as input arrives."""

from dataclasses import dataclass

from transpike.core.schedule import Schedule


@dataclass(frozen=True)
class Streaming(Schedule):
    """Every layer runs in every step; a spike reaches the output within the step, so the output at t takes t steps.

    The order of arrival matters: unevenness error. One run gives an output at every t.
    """

    def lag(self, timesteps: int) -> int:
        return 0
