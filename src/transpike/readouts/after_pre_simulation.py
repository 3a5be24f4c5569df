"""The output is read when neurons have started anew."""

from dataclasses import dataclass, replace

from transpike.core.cell import Cell
from transpike.core.graph import Graph
from transpike.core.pass_ import Context
from transpike.readouts.delayed_window import DelayedWindow


@dataclass(frozen=True)
class AfterPreSimulation(DelayedWindow):
    """``DelayedWindow`` whose delay is the steps that the network's neurons rehearse (SRP's τ); 0 where none does."""

    def calibrated(self, graph: Graph, context: Context) -> "AfterPreSimulation":
        units = [node.op.unit for node in graph if isinstance(node.op, Cell)]
        return replace(
            self, delay=max((unit.pre_simulation_steps for unit in units if unit is not None), default=0), share=None
        )
