"""The result of a simulation."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transpike.core.activity import Activity
from transpike.core.structure import Structure


@dataclass(frozen=True, eq=False)
class Trace:
    """``logits`` (answers, batch, classes), one row for each entry of ``timesteps``; counts, and recorded trains.

    ``trains`` maps the name of a recorded layer to its levels, (timesteps, batch, *shape). ``exact`` is False if the
    run left the exact grid, for the reason ``why``; ``ties`` then counts potentials so close to a threshold that
    rounding may decide. ``kernels`` names the kernel of each layer and, if the engine had a choice, why it is not the
    event kernel. ``early`` counts spikes at exact times that came before all of their inputs; their values are wrong.
    ``warnings``: how the inputs differ from those of the calibration. For a network with several outputs, ``logits``
    (answers, batch, N) holds them side by side, ``outputs`` by name and ``answer`` in the ``structure`` of the model.
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
    warnings: tuple[str, ...] = ()
    structure: Structure | None = None

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The answers by the name of the output, (answers, batch, *shape); of one output by the name "output"."""
        return {"output": self.logits} if self.structure is None else self.structure.named(self.logits)

    @property
    def answer(self) -> Any:
        """The last answer, (batch, *shape), in the structure of the source model."""
        return self.logits[-1] if self.structure is None else self.structure.filled(self.logits[-1])


def joined(traces: list[Trace]) -> Trace:
    """Merge the traces of the parts of a batch."""
    first = traces[0]
    if len(traces) == 1:
        return first
    activity = first.activity
    for trace in traces[1:]:
        activity = activity + trace.activity
    inexact = next((trace for trace in traces if not trace.exact), None)
    return Trace(
        torch.cat([trace.logits for trace in traces], 1),
        first.timesteps,
        activity,
        {name: torch.cat([trace.trains[name] for trace in traces], 1) for name in first.trains},
        inexact is None,
        "" if inexact is None else inexact.why,
        sum(trace.ties for trace in traces),
        first.kernels,
        sum(trace.early for trace in traces),
    )
