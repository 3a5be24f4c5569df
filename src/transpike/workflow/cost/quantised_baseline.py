"""The quantised ANN as baseline of a spiking network: the same number of levels and weight bits."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.activations import Staircase
from transpike.core.alphabet import Alphabet
from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Node
from transpike.core.op import Op, Synapse
from transpike.core.pass_ import Context
from transpike.energy import AnnActivity, AnnLayer
from transpike.errors import SettingError
from transpike.lowering.activity import unpriced
from transpike.passes import FoldBatchNorm, QuantiseWeights
from transpike.passes.rewrites.rectify import rectified
from transpike.snn import SNN
from transpike.workflow.cost.quantised_functions import quantised_functions

INPUT_BITS = 8  # of an analogue input, as pixels have
WIDE_BITS = 8  # of activations without a finite number of levels in the spiking network
MOST_BITS = 16


@dataclass(frozen=True, eq=False)
class QuantisedBaseline:
    """``graph`` to run; ``bits`` of its activations by name; ``weight_bits`` None for real weights."""

    graph: Graph
    bits: dict[str, int]
    weight_bits: int | None


def levels(alphabet: Alphabet, timesteps: int, slots: int | None) -> int | None:
    """Number of values that the sum of a wire over a run can take; None where it is not finite.

    T + 1 for binary spikes, 2 T + 1 for signed ones, k T + 1 for k levels; slots + 1 for first spikes.
    """
    if alphabet.kind == "graded" or (alphabet.kind == "time" and not alphabet.levels):
        return None
    if alphabet.kind == "time":
        return (slots or 1) + 1
    most = _most(alphabet) * timesteps
    return (2 if alphabet.signed else 1) * most + 1


def quantised(
    snn: SNN, timesteps: int, activation_bits: int | None = None, weight_bits: int | None = None
) -> QuantisedBaseline:
    """The source network with activations of ``⌈log2(levels)⌉`` bits, uniform from 0 to the neuron's largest value.

    ``activation_bits`` sets another width for all of them, ``weight_bits`` that of the weights (default: the recipe's).
    Sigma-delta neurons settle whatever T is: the levels are those that their functions reach (``quantised_functions``).
    """
    for name, value in (("activation_bits", activation_bits), ("weight_bits", weight_bits)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_BITS):
            raise SettingError(f"{name} must be integers from 1 to {MOST_BITS}, not {value!r}")
    used, weights = _weights(snn, weight_bits)
    if snn.schedule.gain == "unit":
        graph, widths = quantised_functions(snn, activation_bits)
        graph = graph if weights is None else weights.apply(graph, None)  # type: ignore[arg-type]
        return QuantisedBaseline(graph, widths, used)
    context = Context(snn.source, (), snn.timesteps)
    graph = rectified(FoldBatchNorm().apply(snn.source, context), snn.recipe.passes, context)
    if weights is not None:
        graph = weights.apply(graph, None)  # type: ignore[arg-type]
    alphabets = snn.lowered.alphabets
    cells = {node.name: node.op for node in snn.graph if isinstance(node.op, Neuron) and not node.op.is_delay}
    bits: dict[str, int] = {}

    def change(node: Node) -> Node | None:
        cell = cells.get(node.name)
        if cell is None or not isinstance(node.op, Op) or node.op.role != "activation":
            return None
        alphabet, spike_scale = alphabets[node.name], cell.output_scale()
        code = cell.unit.code if cell.unit is not None else None
        found = levels(alphabet, timesteps, None if code is None else code.slots)
        width = WIDE_BITS if found is None else math.ceil(math.log2(found))
        width = width if activation_bits is None else activation_bits
        bits[node.name] = width
        if found is None or spike_scale is None:
            return None
        top = spike_scale * (float(code.levels[0]) if code is not None else _most(alphabet))
        op = Staircase(top.float(), 2**width - 1, 0.5)
        return dataclasses.replace(node, op=op, origin=())

    return QuantisedBaseline(graph.rewrite(change), bits, used)


def _most(alphabet: Alphabet) -> int:
    return alphabet.levels if alphabet.kind in ("levels", "bits", "phase") else 1


def _weights(snn: SNN, weight_bits: int | None) -> tuple[int | None, QuantiseWeights | None]:
    """The bits of the weights, and the pass that quantises them: the recipe's, or a uniform one."""
    if weight_bits is not None:
        return weight_bits, QuantiseWeights(weight_bits)
    own = next((one for one in snn.recipe.passes if isinstance(one, QuantiseWeights)), None)
    return (None, None) if own is None else (own.bits, own)


class Counted:
    """Counts the operations of a quantised baseline over batches."""

    def __init__(self, quantised_baseline: QuantisedBaseline) -> None:
        self.quantised_baseline, self.samples = quantised_baseline, 0
        self.effective: dict[str, float] = {}
        self.judged: list[Tensor] = []
        self.entering, self.leaving = _widths(quantised_baseline)
        self.paths = {node.name: node.op.paths() for node in quantised_baseline.graph if isinstance(node.op, Synapse)}

    def add(self, x: Tensor) -> Tensor:
        """Run a batch (batch, *shape), count its products with nonzero inputs, and return the logits."""
        logits, products = self.run(x)
        self.count(len(x), products)
        return logits

    def count(self, samples: int, products: dict[str, float]) -> None:
        """Count a batch that ``run`` ran, here or in another process."""
        self.samples += samples
        for name, number in products.items():
            self.effective[name] = self.effective.get(name, 0.0) + number

    def merge(self, part: tuple[int, dict[str, float], Tensor | None]) -> None:
        """Count a batch: its samples, what ``run`` counted, and its judged samples where there is a task."""
        samples, products, rows = part
        self.count(samples, products)
        self.judged += [] if rows is None else [rows.cpu()]

    def state(self) -> tuple[Any, ...]:
        """What was counted and judged, as plain data."""
        return self.samples, self.effective, torch.cat(self.judged) if self.judged else None

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take what ``state`` gave."""
        self.samples, effective, rows = state
        self.effective, self.judged = dict(effective), [] if rows is None else [rows]

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The logits of a batch, and by layer its products with nonzero inputs, which are integers."""
        products: dict[str, float] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if node.name in self.paths or getattr(node.op, "role", "") == "product":
                nonzero = [(value != 0).to(value.dtype) for value in inputs]
                with torch.no_grad():
                    path = self.paths.get(node.name)
                    found = path.linear(*nonzero) if path is not None else node.op.run(*nonzero)  # type: ignore[union-attr]
                products[node.name] = products.get(node.name, 0.0) + float(found.double().sum())

        with torch.no_grad():
            logits = self.quantised_baseline.graph.run(x, observe=see)
        return logits, products

    def activity(self, weight_bits: int) -> AnnActivity:
        """Counts per sample; ``weight_bits`` applies where the baseline has real weights."""
        found, graph = [], self.quantised_baseline.graph
        for node in graph:
            macs = graph.macs(node) or 0
            if isinstance(node.op, Synapse) or macs:
                weight = node.op.weight if isinstance(node.op, Synapse) else torch.empty(0)
                products = self.effective[node.name] / self.samples if node.name in self.effective else float(macs)
                inputs = sum(math.prod(graph[name].shape) for name in node.inputs)
                found.append(
                    AnnLayer(
                        node.name, macs, products, inputs, math.prod(node.shape), weight.numel(),
                        self.entering[node.name], self.leaving[node.name], tuple(weight.shape[2:]),
                    )
                )  # fmt: skip
        return AnnActivity(tuple(found), self.quantised_baseline.weight_bits or weight_bits, unpriced(graph))


def _widths(quantised_baseline: QuantisedBaseline) -> tuple[dict[str, int], dict[str, int]]:
    """Bits of the input of each layer, and of its output after the next activation."""
    wire: dict[str, int] = {}
    entering: dict[str, int] = {}
    for node in quantised_baseline.graph:
        before = max((wire[name] for name in node.inputs), default=INPUT_BITS)
        wire[node.name] = quantised_baseline.bits.get(node.name, before)
        entering[node.name] = before
    leaving: dict[str, int] = {}
    after: dict[str, int] = {}
    for node in reversed(quantised_baseline.graph.nodes):
        readers = [other.name for other in quantised_baseline.graph if node.name in other.inputs]
        reached = max((quantised_baseline.bits.get(name, after[name]) for name in readers), default=INPUT_BITS)
        after[node.name] = leaving[node.name] = reached
    return entering, leaving


def with_weight_bits(snn: SNN, weight_bits: int) -> SNN:
    """The spiking network with uniform weights of ``weight_bits``, without a new calibration."""
    graph = QuantiseWeights(weight_bits).apply(snn.graph, None)  # type: ignore[arg-type]
    return dataclasses.replace(snn, graph=graph, exit=None)  # an exit was fitted to other answers
