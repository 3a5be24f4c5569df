"""What a simulation gives back."""

from dataclasses import dataclass, field

from torch import Tensor

from transpike.core.activity import Activity


@dataclass(frozen=True, eq=False)
class Trace:
    """``logits`` (answers, batch, classes), one row for each entry of ``timesteps``; counts, and recorded trains.

    ``trains`` maps a layer's name to its levels, (timesteps, batch, *shape), where asked for. ``exact`` is False where
    the run left the exact grid, with ``why``; ``ties`` then counts potentials too close to a threshold to trust.
    ``kernels`` says what ran each layer, and why not events, where the engine had a choice. ``early`` counts spikes of
    exact times that came before all of their causes, so that their value is wrong.
    """

    logits: Tensor
    timesteps: tuple[int, ...]
    activity: Activity
    trains: dict[str, Tensor] = field(default_factory=dict)
    exact: bool = False
    why: str = ""
    ties: int = 0
    kernels: dict[str, str] = field(default_factory=dict)
    early: int = 0
