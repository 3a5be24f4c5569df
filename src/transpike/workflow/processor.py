"""A first-spike network in the integer arithmetic of the processor, compared with floating point layer by layer."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.codes.first_spike import first_levels
from transpike.codes.time_code import TimeCode
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op, Synapse
from transpike.core.plain import is_plain
from transpike.encoders import FirstSpikes
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import FirstSpike
from transpike.neurons.delay import Delay
from transpike.neurons.maximum_in_time import MaximumInTime
from transpike.snn import SNN, takes_snn
from transpike.weights import LogarithmicWeights, ProcessingElement
from transpike.workflow.hybrid import refuse_hybrid

SHIFTED = (1, 2, 4, 8, 16, 32, 64)  # τ
POOLED = 2**16  # averages over powers of two are integer multiples of 1 / POOLED
EXACT = 1e-5  # of a weight: precision of a logarithmic code in float32


@dataclass(frozen=True)
class ProcessorLayer:
    """One neuron layer: errors of its potential in units of θ, relative to products ``w κ(t)`` in float64.

    Both use the spikes of the processor's previous layers. ``moved``: the share of neurons whose slot changes;
    ``products``: their number per sample.
    """

    name: str
    largest_error: float
    mean_error: float
    moved: float
    products: float


@dataclass(frozen=True, eq=False)
class ProcessorRun:
    """``logits`` (batch, classes) of the processor; ``elements`` the tables of its layers by the synapse's name.

    ``analogue``: weight layers that multiply real numbers, because the input reaches them as a current, at most scaled
    per channel.
    """

    logits: Tensor
    layers: tuple[ProcessorLayer, ...]
    elements: dict[str, ProcessingElement]
    analogue: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The layers' numbers as plain data."""
        return {"layers": [asdict(layer) for layer in self.layers], "analogue": list(self.analogue)}


@takes_snn
def run_processor(snn: SNN, x: Tensor, *, table_bits: int = 12, guard: int = 12) -> ProcessorRun:
    """Run ``snn`` on x (batch, *shape); addition, table and shift compute every product of spike and weight.

    Needs base 2, τ a power of two, whole windows, and logarithmic weights (``weight_bits=5,
    weight_scale="logarithmic"``) with one full scale per layer. A synapse accumulates integers; their sum is added in
    units of ``θ 2^−(table_bits + guard)``; bias, shortcuts and an analogue first layer are rounded to that unit.
    Average pools divide sums. Slow: one pass for each slot.

    The shifter computes κ(t) exactly; a simulation differs, because its levels are on a grid of ``TimeCode.bits``.

    Raises SettingError and UnsupportedModel where a network does not match the processor, DataError for wrong inputs.
    """
    refuse_hybrid(snn, "run_processor", "the processor runs spikes only")
    codes = {node.name: node.op.code for node in snn.graph if is_plain(node.op, FirstSpike)}
    if not codes or not snn.schedule.whole_windows:
        raise SettingError(
            "the processor needs neurons that fire once after a whole window: convert with the recipe cat"
        )
    if is_plain(snn.encoder, FirstSpikes):
        codes[snn.graph.input.name] = snn.encoder.code
    for name, code in codes.items():
        if code.kernel != "exponential" or code.base != 2 or code.delay or code.tau not in SHIFTED:
            raise SettingError(
                f"{name} has the code {code}; shifts need base 2, no delay and a tau of {', '.join(map(str, SHIFTED))}"
            )
    with torch.no_grad():
        prepared = snn.prepare(x)
        snn.checked(prepared)
        return _Processor(snn, codes, table_bits, guard).run(prepared.double())


@dataclass(frozen=True, eq=False)
class _Spikes:
    """Spikes on a wire: ``at(slot)``, those of one slot after wiring and pooling.

    ``paths(slot)`` counts spikes where pooling weights them.
    """

    at: Callable[[int], Tensor]
    paths: Callable[[int], Tensor]
    code: TimeCode
    spike_scale: float


class _Processor:
    """Traverses the graph once; a wire of currents holds charge, a wire of spikes their scaled sum."""

    def __init__(self, snn: SNN, codes: dict[str, TimeCode], table_bits: int, guard: int) -> None:
        self.snn, self.codes, self.table_bits, self.guard = snn, codes, table_bits, guard
        self.elements: dict[str, ProcessingElement] = {}
        self.layers: list[ProcessorLayer] = []
        self.products = 0.0

    def run(self, x: Tensor) -> ProcessorRun:
        graph: Graph = self.snn.graph.to(dtype=torch.float64)
        # a wire: (value in the processor, value with products in float64), and its spikes if it has any
        wires: dict[str, tuple[Tensor, Tensor]] = {}
        spikes: dict[str, _Spikes] = {}
        analogue, real = set[str](), list[str]()
        for node in graph:
            op, inputs = node.op, [wires[name] for name in node.inputs]
            if isinstance(op, Input):
                wires[node.name] = x, x
                analogue.add(node.name)
                if is_plain(self.snn.encoder, FirstSpikes):
                    levels = self.snn.encoder.counts(x, torch.arange(len(x)), self.snn.timesteps)
                    spike_scale = float(self.snn.encoder.spike_scale or 1.0)
                    wires[node.name] = levels * spike_scale, levels * spike_scale
                    spikes[node.name] = _sent(levels, self.codes[node.name], spike_scale)
            elif is_plain(op, FirstSpike):
                levels, spike_scale = self._fired(node, op, *inputs[0]), self._spike_scale(node, op)
                wires[node.name] = levels * spike_scale, levels * spike_scale
                spikes[node.name] = _sent(levels, op.code, spike_scale)
            elif is_plain(op, MaximumInTime):
                wires[node.name] = op.pool.run(inputs[0][0]), op.pool.run(inputs[0][1])
                if node.inputs[0] in spikes:
                    before = spikes[node.inputs[0]]
                    levels = wires[node.name][0] / before.spike_scale
                    spikes[node.name] = _sent(levels.round(), before.code, before.spike_scale)
            elif isinstance(op, Cell):
                if not is_plain(op, Delay):
                    raise UnsupportedModel(
                        f"{node.name} ({op.describe()}): the processor supports only neurons that fire once, maximum "
                        "pooling of their spikes, and delays"
                    )
                wires[node.name] = inputs[0]
                if node.inputs[0] in spikes:
                    spikes[node.name] = spikes[node.inputs[0]]
            elif isinstance(op, Synapse) and node.inputs[0] in spikes and not _scales(op, node, analogue):
                wires[node.name] = self._accumulated(node, op, spikes[node.inputs[0]])
            else:
                assert isinstance(op, Op)
                if set(node.inputs) <= analogue:
                    analogue.add(node.name)
                    real += [node.name] if isinstance(op, Synapse) else []
                elif isinstance(op, Synapse):
                    raise UnsupportedModel(
                        f"{node.name} receives currents, or spikes of different scales, whose products are not shifts: "
                        "use one threshold for the layers before it, or insert a neuron layer"
                    )
                wires[node.name] = op.run(*(value[0] for value in inputs)), op.run(*(value[1] for value in inputs))
                self._move(node, op, spikes)
        return ProcessorRun(wires[graph.output.name][0].float(), tuple(self.layers), self.elements, tuple(real))

    def _move(self, node: Node, op: Op, spikes: dict[str, _Spikes]) -> None:
        """Apply wiring to spikes; where they meet currents or spikes of another scale, they become charge."""
        entering = [spikes.get(name) for name in node.inputs]
        known = [one for one in entering if one is not None]
        if op.role != "wiring" or len(known) < len(entering) or not known:
            return
        first = known[0]
        if any(one.spike_scale != first.spike_scale or one.code != first.code for one in known):
            return
        counted = op.paths()
        spikes[node.name] = _Spikes(
            lambda slot: op.run(*(one.at(slot) for one in known)),
            lambda slot: counted.run(*(one.paths(slot) for one in known)),
            first.code,
            first.spike_scale,
        )

    def _spike_scale(self, node: Node, cell: FirstSpike) -> float:
        if cell.threshold.numel() != 1:
            raise UnsupportedModel(
                f"{node.name} has a threshold for each channel, but the processor cannot multiply weights by it: "
                'convert with granularity="layer"'
            )
        return float(cell.output_scale())

    def _accumulated(self, node: Node, op: Synapse, spikes: _Spikes) -> tuple[Tensor, Tensor]:
        if op.weight.ndim < 2:
            raise UnsupportedModel(f"{node.name} multiplies spikes by a factor for each channel, which is not a shift")
        codes, element = self._codes(node, op, spikes.code)
        self.elements[node.name] = element
        total, kernel, products = torch.zeros(()), torch.zeros(()), 0.0
        for slot in range(spikes.code.slots):
            now = spikes.at(slot)
            if bool(now.any()):
                if not bool((now * POOLED == (now * POOLED).round()).all()):
                    raise UnsupportedModel(
                        f"{node.name} receives averages over a number of spikes that is not a power of two: use pools "
                        'of 2 × 2 or 4 × 4, maximum pools, or average_pooling="spiking"'
                    )
                weights = element.products(codes.signs, codes.exponents, slot).double()
                total = total + op.with_tensors(weight=weights).linear(now)  # integers below 2^53
                kernel = kernel + op.linear(now) * 2.0 ** (-slot / spikes.code.tau)
                products += float(op.paths().linear(spikes.paths(slot)).sum()) / len(now)
        bias = op.run(torch.zeros_like(spikes.at(0))) if op.bias is not None else 0.0
        if not total.ndim:
            total = kernel = torch.zeros((len(spikes.at(0)), *node.shape), dtype=torch.float64)
        self.products += products
        theta = spikes.spike_scale / spikes.code.spike_scale  # of the source: scale of a spike in slot 0
        return total * element.unit * float(codes.full_scale) * theta + bias, kernel * theta + bias

    def _codes(self, node: Node, op: Synapse, code: TimeCode) -> tuple[LogarithmicWeights, ProcessingElement]:
        """The codes of logarithmic weights; UnsupportedModel for others."""
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

    def _fired(self, node: Node, cell: FirstSpike, ours: Tensor, plain: Tensor) -> Tensor:
        theta = float(cell.threshold.flatten()[0])
        unit = theta * 2.0 ** -(self.table_bits + self.guard)
        ours = torch.round(ours / unit) * unit
        code = cell.code.shortened(self.snn.timesteps)
        error = (ours - plain).abs() / theta
        levels, other = first_levels(ours, theta, code), first_levels(plain, theta, code)
        moved = float((levels != other).double().mean())
        self.layers.append(ProcessorLayer(node.name, float(error.max()), float(error.mean()), moved, self.products))
        self.products = 0.0
        return levels


def _scales(op: Synapse, node: Node, analogue: set[str]) -> bool:
    """True for a scale and shift of the input's channels, such as its normalisation."""
    return op.weight.ndim < 2 and node.inputs[0] in analogue


def _sent(levels: Tensor, code: TimeCode, spike_scale: float) -> _Spikes:
    def at(slot: int) -> Tensor:
        return (levels == float(code.levels[slot])).double()

    return _Spikes(at, at, code, spike_scale)
