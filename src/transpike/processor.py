"""A network of first spikes on the processor's whole-number arithmetic, layer by layer beside its float form."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.closed_form import first_levels
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op, Synapse
from transpike.core.time_code import TimeCode
from transpike.encoders import FirstSpikes
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import FirstSpike
from transpike.neurons._base import MaximumInTime
from transpike.snn import SNN
from transpike.weights import LogarithmicWeights, ProcessingElement

EXACT = 1e-5  # of a weight: as near as float32 holds a logarithmic code


@dataclass(frozen=True)
class ProcessorLayer:
    """One neuron layer: errors of its potential as shares of θ, on the spikes that the processor's own layers gave it,
    against products ``w κ(t)`` in float64.

    ``moved``: the share of neurons whose slot is another one for it; ``products`` are those of a sample.
    """

    name: str
    largest_error: float
    mean_error: float
    moved: float
    products: float


@dataclass(frozen=True, eq=False)
class ProcessorRun:
    """``logits`` (batch, classes) of the processor; ``elements`` the tables of its layers by the synapse's name."""

    logits: Tensor
    layers: tuple[ProcessorLayer, ...]
    elements: dict[str, ProcessingElement]

    def to_json(self) -> dict[str, Any]:
        """The layers' numbers as plain data."""
        return {"layers": [asdict(layer) for layer in self.layers]}


def run_processor(snn: SNN, x: Tensor, *, table_bits: int = 12, guard: int = 12) -> ProcessorRun:
    """Run ``snn`` on x (batch, *shape) with every product of a spike and a weight made by adding, table and shift.

    Needs base 2, τ a power of two, whole windows, and weights that were quantised logarithmically
    (``weight_bits=5, weight_scale="logarithmic"``) with one full scale a layer. A synapse accumulates whole numbers,
    whose sum is then added in units of ``θ 2^−(table_bits + guard)``; bias, shortcuts and an analogue first layer are
    rounded to that unit. Average pools divide sums. Slow: a pass for each slot.

    The shifter gives κ(t) itself; a simulation carries levels on a grid, ``TimeCode.bits`` wide, and differs by that.

    Raises SettingError and UnsupportedModel where a network does not fit the processor, DataError for inputs.
    """
    codes = {node.name: node.op.code for node in snn.graph if isinstance(node.op, FirstSpike)}
    if not codes or not snn.schedule.whole_windows:
        raise SettingError(
            "the processor runs neurons that fire once after a whole window: convert with the recipe cat"
        )
    if isinstance(snn.encoder, FirstSpikes):
        codes[snn.graph.input.name] = snn.encoder.code
    for name, code in codes.items():
        if code.kernel != "exponential" or code.base != 2 or code.delay or not math.log2(code.tau).is_integer():
            raise SettingError(
                f"{name} codes with {code}; shifts need base 2, no delay and a tau that is a power of two"
            )
    with torch.no_grad():
        return _Processor(snn, codes, table_bits, guard).run(snn.prepare(x).double())


class _Processor:
    """Goes through the graph once; a wire of spikes holds levels, one of currents charge."""

    def __init__(self, snn: SNN, codes: dict[str, TimeCode], table_bits: int, guard: int) -> None:
        self.snn, self.codes, self.table_bits, self.guard = snn, codes, table_bits, guard
        self.elements: dict[str, ProcessingElement] = {}
        self.layers: list[ProcessorLayer] = []
        self.products = 0.0

    def run(self, x: Tensor) -> ProcessorRun:
        graph: Graph = self.snn.graph.to(dtype=torch.float64)
        # a wire: (what the processor has, the same with products in float64, code and worth where spikes are on it)
        wires: dict[str, tuple[Tensor, Tensor]] = {}
        spikes: dict[str, tuple[TimeCode, float]] = {}
        for node in graph:
            if isinstance(node.op, Input):
                value = x
                if isinstance(self.snn.encoder, FirstSpikes):
                    value = self.snn.encoder.counts(x, torch.arange(len(x)), self.snn.timesteps)
                    spikes[node.name] = self.codes[node.name], float(self.snn.encoder.worth or 1.0)
                wires[node.name] = value, value
            elif isinstance(node.op, FirstSpike):
                wires[node.name] = self._fired(node, node.op, *wires[node.inputs[0]])
                spikes[node.name] = node.op.code, self._worth(node, node.op)
            elif isinstance(node.op, MaximumInTime):
                wires[node.name] = tuple(node.op.pool.run(v) for v in wires[node.inputs[0]])  # type: ignore[assignment]
                self._pass_on(node, spikes)
            elif isinstance(node.op, Cell):
                wires[node.name] = wires[node.inputs[0]]
                self._pass_on(node, spikes)
            elif isinstance(node.op, Synapse) and node.inputs[0] in spikes and node.op.weight.ndim > 1:
                wires[node.name] = self._accumulated(node, node.op, wires[node.inputs[0]][0], *spikes[node.inputs[0]])
            else:
                charges = [self._charge(name, wires, spikes) for name in node.inputs]
                assert isinstance(node.op, Op)
                wires[node.name] = node.op.run(*(c[0] for c in charges)), node.op.run(*(c[1] for c in charges))
        logits = self._charge(graph.output.name, wires, spikes)[0]
        return ProcessorRun(logits.float(), tuple(self.layers), self.elements)

    def _charge(
        self, name: str, wires: dict[str, tuple[Tensor, Tensor]], spikes: dict[str, tuple[TimeCode, float]]
    ) -> tuple[Tensor, Tensor]:
        ours, plain = wires[name]
        worth = spikes[name][1] if name in spikes else 1.0
        return ours * worth, plain * worth

    def _pass_on(self, node: Node, spikes: dict[str, tuple[TimeCode, float]]) -> None:
        if node.inputs[0] in spikes:
            spikes[node.name] = spikes[node.inputs[0]]

    def _worth(self, node: Node, cell: FirstSpike) -> float:
        if cell.threshold.numel() != 1:
            raise UnsupportedModel(
                f"{node.name} has a threshold for each channel, which the next layer's weights would have to be "
                'multiplied by: convert with granularity="layer"'
            )
        return float(cell.amplitude())

    def _accumulated(
        self, node: Node, op: Synapse, levels: Tensor, code: TimeCode, worth: float
    ) -> tuple[Tensor, Tensor]:
        codes, element = self._codes(node, op, code)
        self.elements[node.name] = element
        total, kernel, spiked = torch.zeros(()), torch.zeros(()), torch.zeros_like(levels)
        for slot, level in enumerate(code.levels.tolist()):
            now = (levels == level).double()
            if bool(now.any()):
                weights = element.products(codes.signs, codes.exponents, slot).double()
                total = total + op.with_tensors(weight=weights).linear(now)  # whole numbers below 2^53
                kernel = kernel + op.linear(now) * 2.0 ** (-slot / code.tau)
                spiked = spiked + now
        if not total.ndim:
            total = kernel = torch.zeros((len(levels), *node.shape), dtype=torch.float64)
        self.products += float(op.paths().linear(spiked).sum()) / len(levels)
        bias = op.run(torch.zeros_like(levels)) if op.bias is not None else 0.0
        theta = worth / code.worth  # of the source: what a spike in slot 0 is worth
        return total * element.unit * float(codes.full_scale) * theta + bias, kernel * theta + bias

    def _codes(self, node: Node, op: Synapse, code: TimeCode) -> tuple[LogarithmicWeights, ProcessingElement]:
        """The codes of weights that lie on a logarithmic scale; UnsupportedModel for others."""
        weight = op.weight.double()
        for z in range(4):
            peak = weight.abs().max()
            exponents = torch.round(-torch.log2((weight.abs() / peak).clamp(min=1e-300)) * 2**z).clamp(0, 2**11)
            signs = torch.sign(weight)
            values = signs * peak * torch.exp2(-exponents / 2**z)
            if bool(((values - weight).abs() <= EXACT * weight.abs()).all()):
                found = LogarithmicWeights(signs.to(torch.int8), exponents.to(torch.int16), peak, z, 0)
                return found, ProcessingElement(z, int(math.log2(code.tau)), self.table_bits, self.guard)
        raise UnsupportedModel(
            f"the weights of {node.name} are not logarithmic with one full scale: convert with weight_bits=5 and "
            'weight_scale="logarithmic"'
        )

    def _fired(self, node: Node, cell: FirstSpike, ours: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
        theta = float(cell.threshold.flatten()[0])
        unit = theta * 2.0 ** -(self.table_bits + self.guard)
        ours = torch.round(ours / unit) * unit
        code = cell.code.shortened(self.snn.timesteps)
        error = (ours - plain).abs() / theta
        levels, other = first_levels(ours, theta, code), first_levels(plain, theta, code)
        moved = float((levels != other).double().mean())
        self.layers.append(ProcessorLayer(node.name, float(error.max()), float(error.mean()), moved, self.products))
        self.products = 0.0
        return levels, levels
