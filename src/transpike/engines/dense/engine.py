"""The dense engine: layer by layer, time folded into the batch, pure PyTorch, on any device."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from transpike.engines.dense.estimates import STEPS_AT_ONCE
from transpike.engines.dense.plan import LARGEST_TENSOR, LIVE_WIRES, Plan, bytes_per_sample
from transpike.engines.dense.run import FoldedRun
from transpike.engines.run import Run
from transpike.lowering.program import Program


@dataclass(frozen=True)
class Dense:
    """Runs layer by layer; same spikes as the reference on the exact grid, for any chunks of time and batch.

    ``memory``: limit of the memory that a run adds, in bytes; batches are split to stay below it.
    """

    memory: int = 2 * 2**30

    def start(
        self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str] = (), count: bool = True
    ) -> Run:
        """``x`` is (batch, *shape) after preprocessing; ``record`` names layers whose trains are recorded."""
        key = ("dense", x.device)
        if key not in program.prepared:
            program.prepared[key] = Plan(program, x.device)
        return FoldedRun(program, program.prepared[key], x, sample_ids, record, count, self.memory)

    def batch_limit(self, program: Program) -> int:
        """The number of samples that fit into the memory limit together.

        With unit gain, of which all steps of a wire of levels, 16 bits each, fit into the cache.
        """
        state, largest = bytes_per_sample(program)
        most = self.memory // (state + LIVE_WIRES * largest)
        if program.schedule.gain == "unit":
            most = min(most, LARGEST_TENSOR // (STEPS_AT_ONCE * largest // 4))
        return max(1, most)
