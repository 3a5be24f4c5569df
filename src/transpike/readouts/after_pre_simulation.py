"""Readout that excludes the pre-simulation."""

from dataclasses import dataclass, replace

from transpike.core.cell import Cell
from transpike.core.graph import Graph
from transpike.core.pass_ import Context
from transpike.readouts.delayed_window import DelayedWindow


@dataclass(frozen=True)
class AfterPreSimulation(DelayedWindow):
    """``DelayedWindow`` whose delay is the pre-simulation steps of the network's neurons (SRP's τ), or 0."""

    def calibrated(self, graph: Graph, context: Context) -> "AfterPreSimulation":
        units = [node.op.unit for node in graph if isinstance(node.op, Cell)]
        return replace(
            self, delay=max((unit.pre_simulation_steps for unit in units if unit is not None), default=0), share=None
        )
