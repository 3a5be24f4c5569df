"""Inputs on the steps of a floor, in runs so long that the rounding of their current to the exact grid would show.

A neuron with v(0) next to 0 counts ``⌊T z/θ⌋`` of a constant current z. If z = k θ/T, as after a quantised input, and T
rounded currents add to slightly less than k θ, the last spike is lost. Such a current is rounded upwards instead.
"""

from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.core.op import Synapse
from transpike.lowering.lowered import Lowered

LONG = 128  # steps up to which the grid rounds a whole window's charge by less than 2⁻¹⁰ of θ
ONLY_TIES = 2.0**-9  # of θ: a v(0) that decides nothing but ties
NEAR = 2.0**-12  # of a step of the staircase: far above the rounding of float32 inputs


def step_of_floor(lowered: Lowered, node: Node, timesteps: int) -> Tensor | None:
    """θ/T of the neurons that alone read the rounding point ``node``, if it is the input itself that they floor."""
    if timesteps <= LONG:
        return None
    table = {one.name: one for one in lowered.nodes}
    before = table[node.inputs[0]]
    while not isinstance(before.op, Input):
        if isinstance(before.op, (Synapse, Cell)) or len(before.inputs) != 1:
            return None
        before = table[before.inputs[0]]
    readers = [one for one in lowered.nodes if node.name in one.inputs]
    unit = readers[0].op.unit if len(readers) == 1 and isinstance(readers[0].op, Cell) else None
    if unit is None or not bool(((unit.initial > 0) & (unit.initial <= ONLY_TIES * unit.threshold)).all()):
        return None
    return unit.threshold.double() / timesteps


def rounded_up_on_steps(value: Tensor, grid: Tensor, step: Tensor) -> Tensor:
    """``value`` (batch, *shape) in float64 rounded to ``grid``: upwards within NEAR of a multiple of ``step``."""
    nearest = (value / step).round_()
    near = (value / step - nearest).abs() < NEAR
    return (value / grid).round_().where(~near, (nearest * step / grid).ceil_()).mul_(grid)
