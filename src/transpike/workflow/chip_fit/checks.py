"""One check for each limit of a chip."""

import math
from collections.abc import Callable, Iterable

from transpike.chips import Chip
from transpike.core.activity import Connection
from transpike.core.cell import Neuron
from transpike.core.graph import Node
from transpike.core.op import Synapse
from transpike.core.plain import is_plain
from transpike.neurons import DifferentialOperator, Masked, SpikeProduct, TemporalDifference
from transpike.neurons.maximum_in_time import MaximumInTime
from transpike.ops import AdaptiveMaxPool, Conv, Linear, MaxPool
from transpike.ops.scale import Scale
from transpike.ops.wiring import Average
from transpike.passes import QuantiseWeights
from transpike.snn import SNN

PER_NEURON = " per neuron"

Found = Iterable[tuple[str, str, str, str]]


def spiking_neurons(snn: SNN) -> list[tuple[Node, Neuron]]:
    """Nodes and cells of all neurons except delays."""
    return [(n, n.op) for n in snn.graph if isinstance(n.op, Neuron) and not n.op.is_delay]


def _weights(snn: SNN) -> tuple[Connection, ...]:
    return snn.program.spiking_connections


def _op(snn: SNN, connection: Connection) -> Synapse:
    op = next(node.op for node in snn.lowered.nodes if node.name == connection.name)
    assert isinstance(op, Synapse)
    return op


def _kind(op: Synapse) -> str:
    if is_plain(op, Conv):
        return "conv-transpose" if op.transposed else f"conv{op.weight.ndim - 2}d"
    return "linear" if is_plain(op, Linear) else "scale" if is_plain(op, Scale) else op.describe()


def _total(snn: SNN) -> int:
    return sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")


def _largest(values: Iterable[tuple[str, int]], most: int, what: str, change: str) -> Found:
    for name, value in values:
        if value > most:
            yield name, f"of {value:,}", f"{most:,}{what}", change


def _fans_in(snn: SNN) -> Iterable[tuple[str, int]]:
    for c in _weights(snn):
        yield c.name, c.weights // c.channels if c.kernel else c.inputs


def _fans_out(snn: SNN) -> Iterable[tuple[str, int]]:
    for name, fan in snn.program.fans.items():
        yield name, int(fan.max()) if fan.numel() else 0


def _totals(limit: str, count: Callable[[SNN], int], change: str) -> Callable[[SNN, Chip], Found]:
    def check(snn: SNN, chip: Chip) -> Found:
        return _largest([("the network", count(snn))], getattr(chip, limit), "", change)

    return check


def _operators(snn: SNN, chip: Chip) -> Found:
    for c in _weights(snn):
        kind = _kind(_op(snn, c))
        convolves = kind == "scale" and "conv2d" in (chip.operators or ())  # a depthwise 1 × 1 convolution
        if kind not in (chip.operators or ()) and not convolves:
            yield c.name, f"of {kind}", ", ".join(chip.operators or ()), "use another layer there"
    for node in snn.graph:
        if isinstance(node.op, (SpikeProduct, DifferentialOperator, TemporalDifference, Masked)):
            change = "train without it, for example without gates and with batch normalisation"
            yield node.name, f"of {node.op.op.describe()} between neurons", ", ".join(chip.operators or ()), change


def _kernels(snn: SNN, chip: Chip) -> Found:
    assert chip.kernel_sizes is not None
    for c in _weights(snn):
        if c.kernel and not set(c.kernel) <= set(chip.kernel_sizes):
            text = " × ".join(map(str, c.kernel))
            yield c.name, f"of {text}", f"sizes of {_span(chip.kernel_sizes)}", "train with another kernel"


def _strides(snn: SNN, chip: Chip) -> Found:
    assert chip.strides is not None
    for c in _weights(snn):
        if c.kernel and not set(c.stride) <= set(chip.strides):
            yield c.name, f"of {c.stride[0]}", _span(chip.strides), "train with another stride"


def _padding(snn: SNN, chip: Chip) -> Found:
    for c in _weights(snn):
        op = _op(snn, c)
        if isinstance(op, Conv) and max(op.padding) > (chip.padding_max or 0):
            yield c.name, f"of {max(op.padding)}", f"at most {chip.padding_max}", "train with less padding"


def _groups(snn: SNN, chip: Chip) -> Found:
    for c in _weights(snn):
        if c.groups > 1 and not chip.groups:
            yield c.name, f"of {c.groups}", "no grouped convolution", "use a dense convolution"


def _dilation(snn: SNN, chip: Chip) -> Found:
    for c in _weights(snn):
        op = _op(snn, c)
        if isinstance(op, Conv) and max(op.dilation) > 1 and not chip.dilation:
            yield c.name, f"of {max(op.dilation)}", "none", "use a larger kernel or a stride"


def _channels(incoming: bool) -> Callable[[SNN, Chip], Found]:
    def check(snn: SNN, chip: Chip) -> Found:
        most = chip.input_channels if incoming else chip.output_channels
        for c in _weights(snn):
            count = _op(snn, c).weight.shape[1] * c.groups if c.kernel and incoming else c.channels
            if c.kernel and count > (most or 0):
                yield c.name, f"of {count}", f"at most {most}", "make the layer narrower or split it"

    return check


def _sizes(incoming: bool) -> Callable[[SNN, Chip], Found]:
    def check(snn: SNN, chip: Chip) -> Found:
        most = chip.max_input_size if incoming else chip.max_output_size
        assert most is not None
        table = {node.name: node for node in snn.lowered.nodes}
        for c in _weights(snn):
            node = table[c.name]
            shape = table[node.inputs[0]].shape if incoming else node.shape
            if c.kernel and any(a > b for a, b in zip(shape[1:], most, strict=False)):
                text = " × ".join(map(str, shape[1:]))
                yield c.name, f"of {text}", " × ".join(map(str, most)), "reduce the resolution before this layer"

    return check


def _pooling(snn: SNN, chip: Chip) -> Found:
    allowed = chip.pooling or ()
    for node in snn.graph:
        maximum = isinstance(node.op, (MaxPool, AdaptiveMaxPool, MaximumInTime))
        kind = "max" if maximum else "average" if isinstance(node.op, Average) else ""
        if kind and kind not in allowed:
            other = " or ".join(allowed) + " pooling" if allowed else "no pooling"
            change = "train with average pooling" if "average" in allowed else "train with strided convolutions"
            yield node.name, f"of {kind}", other, change


def _pool_sizes(snn: SNN, chip: Chip) -> Found:
    for node in snn.graph:
        size = getattr(getattr(node.op, "pool", node.op), "kernel", None)
        pooled = isinstance(node.op, (Average, MaxPool, MaximumInTime))
        if pooled and isinstance(size, tuple) and not set(size) <= set(chip.pool_sizes or ()):
            text = " × ".join(map(str, size))
            yield node.name, f"of {text}", f"sizes of {_span(chip.pool_sizes or ())}", "use several smaller pools"


def _residual(snn: SNN, chip: Chip) -> Found:
    for node in snn.graph:
        if getattr(node.op, "is_sum", False) and len(node.inputs) > 1 and not chip.residual:
            yield node.name, "that joins two branches", "none", "train a network without shortcuts"


def _weight_bits(snn: SNN, chip: Chip) -> Found:
    own = next((one.bits for one in snn.recipe.passes if isinstance(one, QuantiseWeights)), None)
    if own is None:
        change = f"convert with weight_bits={chip.weight_bits}"
        yield "the network", "of real weights", f"{chip.weight_bits}-bit weights", change
    elif own > (chip.weight_bits or 0):
        change = f"convert with weight_bits={chip.weight_bits}, or train for fewer bits"
        yield "the network", f"of {own}", str(chip.weight_bits), change


def _threshold_bits(snn: SNN, chip: Chip) -> Found:
    """θ as an integer, on the scale where the largest weight is the largest integer of the weight bits."""
    top = 2 ** ((chip.weight_bits or 8) - 1) - 1
    largest = {c.target: float(_op(snn, c).weight.abs().max()) for c in _weights(snn)}
    for node in snn.lowered.nodes:
        unit = node.op.unit if isinstance(node.op, Neuron) else None
        if unit is None or not largest.get(node.name):
            continue
        whole = float(unit.threshold.max()) * top / largest[node.name]
        most = 2 ** ((chip.threshold_bits or 1) - 1) - 1
        if whole > most:
            yield (
                node.name,
                f"of {math.ceil(math.log2(whole)) + 1}",
                str(chip.threshold_bits),
                "use fewer weight bits there",
            )


def _resets(snn: SNN, chip: Chip) -> Found:
    for node, cell in spiking_neurons(snn):
        unit = cell.unit
        if unit is not None and unit.code is None and unit.reset not in (chip.resets or ()):
            change = f"convert with reset='{(chip.resets or ('',))[0]}'"
            yield node.name, f"is {unit.reset}", " or ".join(chip.resets or ()), change


def _alphabets(snn: SNN, chip: Chip) -> Found:
    for node, _ in spiking_neurons(snn):
        alphabet = snn.lowered.alphabets[node.name]
        if alphabet.kind not in (chip.alphabets or ()):
            change = "use a recipe with binary spikes, such as ecc or few-steps"
            yield node.name, f"is {alphabet}", " or ".join(chip.alphabets or ()), change


def _levels(snn: SNN, chip: Chip) -> Found:
    for node, _ in spiking_neurons(snn):
        alphabet = snn.lowered.alphabets[node.name]
        if alphabet.kind == "levels" and alphabet.levels > (chip.levels or 0):
            yield node.name, f"of {alphabet.levels}", f"at most {chip.levels}", "convert with smaller bursts"


def _signs(snn: SNN, chip: Chip) -> Found:
    for node, _ in spiking_neurons(snn):
        if snn.lowered.alphabets[node.name].signed and not chip.negative_spikes:
            yield node.name, "are sent", "none", "use a recipe without negative spikes"


def _biases(snn: SNN, chip: Chip) -> Found:
    for layer in snn.program.layers:
        if layer.biases and not chip.biases:
            yield layer.name, "are added", "none", "train without biases and batch normalisation"


def _input(snn: SNN, chip: Chip) -> Found:
    if not snn.encoder.alphabet.is_spiking and not chip.analogue_input:
        change = "convert with encoder=DeterministicCounts() or Poisson(), or keep the first layer on a host"
        yield "the input", "is a current", "spikes", change


def _destinations(snn: SNN, chip: Chip) -> Found:
    receivers: dict[str, set[str]] = {}
    for c in _weights(snn):
        for source in c.sources:
            receivers.setdefault(source, set()).add(c.name)
    for name, readers in receivers.items():
        if len(readers) > (chip.destinations or 0):
            yield name, f"of {len(readers)}", str(chip.destinations), "merge branches, or duplicate the layer"


def _memory(snn: SNN, chip: Chip) -> Found:
    """Every weight layer needs a separate core with room for its kernel, neurons and biases."""
    kernels, neurons, biases = (
        chip.kernel_memory_words or (),
        chip.neuron_memory_words or (),
        chip.bias_memory_words or (),
    )
    cores = list(zip(kernels, neurons, biases or (1 << 60,) * len(kernels), strict=False))
    table = {node.name: node for node in snn.lowered.nodes}
    needs = {}
    for c in _weights(snn):
        shape = table[c.name].shape
        inputs, edge = (_op(snn, c).weight.shape[1], math.prod(c.kernel)) if c.kernel else (1, c.inputs)
        places = sum(math.ceil(math.log2(size)) for size in shape[1:] if size > 1)
        words = inputs * 2 ** (math.ceil(math.log2(edge)) + math.ceil(math.log2(c.channels)))
        needs[c.name] = (words, c.channels * 2**places, c.channels)
    placed: dict[int, str] = {}

    def place(name: str, tried: set[int]) -> bool:
        for index, room in enumerate(cores):
            if index in tried or any(a > b for a, b in zip(needs[name], room, strict=True)):
                continue
            tried.add(index)
            if index not in placed or place(placed[index], tried):
                placed[index] = name
                return True
        return False

    for name, need in needs.items():
        if not place(name, set()):
            has = f"of {need[0]:,} weights and {need[1]:,} neurons"
            room = "a free core with " + " or ".join(sorted({f"{k:,} and {n:,}" for k, n, _ in cores}))
            yield name, has, room, "make the layer smaller, or use fewer layers"


def _span(values: tuple[int, ...]) -> str:
    whole = values == tuple(range(values[0], values[-1] + 1)) if values else False
    return f"{values[0]} to {values[-1]}" if whole and len(values) > 2 else ", ".join(map(str, values))


def _layers(snn: SNN) -> int:
    return len(_weights(snn))


def _synapses(snn: SNN) -> int:
    return sum(c.synapses for c in _weights(snn))


CHECKS: dict[str, Callable[[SNN, Chip], Found]] = {
    "operators": _operators,
    "kernel_sizes": _kernels,
    "strides": _strides,
    "padding_max": _padding,
    "groups": _groups,
    "dilation": _dilation,
    "pooling": _pooling,
    "pool_sizes": _pool_sizes,
    "residual": _residual,
    "max_layers": _totals("max_layers", _layers, "use a network with fewer weight layers"),
    "neurons_total": _totals("neurons_total", _total, "use a narrower network or a smaller input"),
    "synapses_total": _totals("synapses_total", _synapses, "prune, or use a narrower network"),
    "kernel_memory_words": _memory,
    "destinations": _destinations,
    "fan_in": lambda snn, chip: _largest(_fans_in(snn), chip.fan_in or 0, PER_NEURON, "prune, or use fewer channels"),
    "fan_out": lambda snn, chip: _largest(_fans_out(snn), chip.fan_out or 0, PER_NEURON, "prune the network"),
    "inputs": _totals("inputs", lambda snn: math.prod(snn.graph.input_shape), "use a smaller input"),
    "outputs": _totals("outputs", lambda snn: math.prod(snn.graph.output.shape), "use fewer classes"),
    "input_channels": _channels(True),
    "output_channels": _channels(False),
    "max_input_size": _sizes(True),
    "max_output_size": _sizes(False),
    "weight_bits": _weight_bits,
    "threshold_bits": _threshold_bits,
    "resets": _resets,
    "alphabets": _alphabets,
    "levels": _levels,
    "negative_spikes": _signs,
    "biases": _biases,
    "analogue_input": _input,
}  # fmt: skip
