"""Run an SNN on inputs and return the trace."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from transpike.engines import engine_named
from transpike.lowering.trace import Trace
from transpike.snn import SNN, takes_snn


@takes_snn
def simulate(
    snn: SNN,
    x: Any,
    timesteps: int | None = None,
    *,
    engine: str = "auto",
    memory: int | None = None,
    record: Iterable[str] = (),
    sample_ids: Tensor | None = None,
    count: bool = True,
) -> Trace:
    """Run ``snn`` on x (batch, *shape), or a tuple or dictionary of inputs, for ``timesteps`` steps (the recipe's).

    ``engine``: "auto" (events where they are faster, dense elsewhere), "event", "dense", "reference" (float64, step by
    step), or "sorted" (first crossings and exact spike times, event by event); on the exact grid all give the same
    spikes. ``record`` names layers of ``snn.program.lowered`` whose trains are kept; ``sample_ids`` (batch,) seed
    random encoders; ``memory`` is the memory limit in bytes; ``count=False`` skips the counters.
    Raises DataError for inputs of a wrong shape, SettingError for invalid settings.
    """
    return snn.run(x, timesteps, engine=engine_named(engine, memory), sample_ids=sample_ids, record=record, count=count)
