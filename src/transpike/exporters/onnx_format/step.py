"""One time step of an integer network as a list of ONNX nodes."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transpike.exporters.onnx_format.arithmetic import digits, integer_type, narrowest, outcome, peak
from transpike.exporters.onnx_format.firing import Firing
from transpike.exporters.onnx_format.names import Names
from transpike.lowering.whole import Entrance, Front, Layer, Term, Whole

FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


@dataclass(frozen=True)
class Node:
    """One operator. An attribute that is a NumPy type represents the ONNX type."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor that enters or leaves the step, (batch, *shape)."""

    name: str
    kind: np.dtype
    shape: tuple[int, ...]


@dataclass(eq=False)
class Step:
    """The nodes of one step: v += charge, fire, reset; layer by layer; levels and resets by ``Firing``.

    ``once``: those whose values are the same in each step (charge of pixels and currents). ``states``: of a layer or of
    the totals, with the initial value (1, *shape); their new values are in ``next``. ``levels``: what layers sent.
    ``step`` is the number of steps before this one, an int64; ``logits`` are totals · unit / steps that were read.
    """

    whole: Whole
    names: Names = field(init=False)
    once: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray] = field(default_factory=dict)
    entrances: dict[str, Tensor] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)
    """Entrance of spikes → the name of its levels in this step."""
    states: dict[str, Tensor] = field(default_factory=dict)
    initial: dict[str, NDArray] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)
    levels: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor = field(init=False)
    _fixed: set[str] = field(default_factory=set)
    _wires: dict[str, str] = field(default_factory=dict)
    _currents: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(("step", "timesteps", "continues", "logits", "totals"))
        for entrance in self.whole.entrances:
            self._enter(entrance)
        for layer in self.whole.layers:
            if layer.kind == "maximum":
                self._maximum(layer)
            elif layer.kind == "readout":
                self._readout(layer)
            else:
                self._integrate(layer)

    def _add(self, operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a node, once for all steps if its inputs never change; returns the name of its output."""
        output = self.names.new(name)
        fixed = self._fixed.issuperset(inputs)
        (self.once if fixed else self.nodes).append(Node(operator, inputs, output, attributes))
        if fixed:
            self._fixed.add(output)
        return output

    def _constant(self, name: str, value: NDArray) -> str:
        output = self.names.new(name)
        self.constants[output] = value
        self._fixed.add(output)
        return output

    def _cast(self, tensor: str, kind: np.dtype, name: str) -> str:
        return self._add("Cast", tensor, name=name, to=kind)

    def _enter(self, one: Entrance) -> None:
        if one.front is not None:
            self._front(one, one.front)
            return
        tensor = self._input(one.name, narrowest(one.low, one.high), one.shape)
        if one.kind == "spikes":
            self.now[one.name] = self.names.new(f"{tensor}_now")
            self._wires[one.name] = self._cast(self.now[one.name], FLOAT, f"{tensor}_levels")
            return
        self._fixed.add(tensor)
        if one.kind == "values":
            self._wires[one.name] = self._cast(tensor, FLOAT, f"{tensor}_levels")
        else:
            self._currents[one.name] = tensor

    def _input(self, name: str, kind: np.dtype, shape: tuple[int, ...]) -> str:
        self.entrances[name] = Tensor(self.names.new(name), kind, shape)
        return self.entrances[name].name

    def _front(self, one: Entrance, front: Front) -> None:
        """The charge of integers n: W · n / 2^shift in float64, where Round takes ties to even."""
        if front.name not in self.entrances:
            tensor = self._input(front.name, narrowest(front.low, front.high), front.shape)
            self._fixed.add(tensor)
            self._wires[front.name] = self._cast(tensor, FLOAT, f"{tensor}_levels")
        level, kind = max(abs(front.low), abs(front.high)), np.dtype(np.int64)
        levels = self._arranged(front.term, front.shape)
        total, *others = self._sums(front.term, levels, level, kind, one.shape)
        for other in others:
            total = self._add("Add", total, other, name=f"{one.name}_sum")
        parts = self._constant(f"{one.name}_part", _lifted(np.exp2(-front.shift), one.shape, DOUBLE))
        value = self._add("Mul", self._cast(total, DOUBLE, f"{one.name}_wide"), parts, name=f"{one.name}_value")
        self._currents[one.name] = self._add("Round", value, name=f"{one.name}_rounded")

    def _state(self, key: str, name: str, kind: np.dtype, initial: NDArray, shape: tuple[int, ...]) -> str:
        """``key``: the name of the layer, or that of ``sum_of``."""
        tensor = Tensor(self.names.new(name), kind, shape)
        self.states[key] = tensor
        self.initial[key] = np.broadcast_to(initial, shape)[None].astype(kind)
        return tensor.name

    def _send(self, layer: Layer, levels: str) -> None:
        """``levels``: float32 for the next layers, or a Boolean value; the file gives them as narrow integers."""
        kind = narrowest(*self.whole.ends(layer.name))
        sent = self._cast(levels, kind, f"s_{layer.name}")
        self.levels[layer.name] = Tensor(sent, kind, layer.shape)

    def _maximum(self, layer: Layer) -> None:
        """C += x; out = max(C) after − max(C) before. Counts are in float32, because MaxPool has no wide integers."""
        assert layer.pool is not None
        window = {
            "kernel_shape": list(layer.pool.kernel),
            "strides": list(layer.pool.stride),
            "pads": [*layer.pool.padding, *layer.pool.padding],
        }
        source = self.whole.table[layer.source]
        before = self._state(layer.name, f"c_{layer.name}", FLOAT, np.zeros(1), source.shape)
        after = self._add("Add", before, self._wires[layer.source], name=f"{before}_next")
        maxima = [self._add("MaxPool", one, name=f"{one}_maximum", **window) for one in (after, before)]
        levels = self._wires[layer.name] = self._add("Sub", *maxima, name=f"{layer.name}_levels")
        self.next[layer.name] = after
        self._send(layer, levels)

    def _integrate(self, layer: Layer) -> None:
        kind = integer_type(self.whole, layer)
        charge = self._charge(layer, kind)
        before = self._state(layer.name, f"v_{layer.name}", kind, layer.initial, layer.shape)
        potential = self._add("Add", before, charge, name=f"{layer.name}_potential")
        if layer.rule.is_plain:
            self._spike(layer, kind, before, potential)
            return
        sent = ""
        if layer.rule.remembers:
            sent = self._state(sum_of(layer.name), f"r_{layer.name}", kind, np.zeros(1), layer.shape)
        fixed = partial(self._number, layer, kind)
        levels = Firing(layer, self._add, fixed).levels(potential, sent)
        if on := self._when(layer, "fires"):
            levels = self._add("Mul", levels, self._cast(on, kind, f"{layer.name}_on"), name=f"{layer.name}_if_on")
        if sent:
            self.next[sum_of(layer.name)] = self._add("Add", sent, levels, name=f"{sent}_next")
        if layer.rule.follow is not None:
            after = self._add("Identity", potential, name=f"{before}_next")
        elif layer.reset == "subtract":
            taken = self._add("Mul", levels, fixed("threshold", layer.threshold), name=f"{layer.name}_taken")
            after = self._add("Sub", potential, taken, name=f"{before}_next")
        else:
            none = self._add("Equal", levels, fixed("none", np.zeros(1)), name=f"{layer.name}_none")
            after = self._add("Where", none, potential, fixed("cleared", np.zeros(1)), name=f"{before}_next")
        self.next[layer.name] = after
        self._wires[layer.name] = self._cast(levels, FLOAT, f"{layer.name}_levels")
        self._send(layer, levels)

    def _spike(self, layer: Layer, kind: np.dtype, before: str, potential: str) -> None:
        """One spike where the potential reaches the threshold."""
        threshold = self._number(layer, kind, "threshold", layer.threshold)
        fires = self._add("GreaterOrEqual", potential, threshold, name=f"{layer.name}_fires")
        if on := self._when(layer, "fires"):
            fires = self._add("And", fires, on, name=f"{layer.name}_fires_now")
        if layer.reset == "subtract":
            fired = self._cast(fires, kind, f"{layer.name}_fired")
            taken = self._add("Mul", fired, threshold, name=f"{layer.name}_taken")
            after = self._add("Sub", potential, taken, name=f"{before}_next")
        else:
            nothing = self._constant(f"{layer.name}_cleared", np.zeros((), kind))
            after = self._add("Where", fires, nothing, potential, name=f"{before}_next")
        self.next[layer.name] = after
        self._wires[layer.name] = self._cast(fires, FLOAT, f"{layer.name}_levels")
        self._send(layer, fires)

    def _number(self, layer: Layer, kind: np.dtype, what: str, values: NDArray) -> str:
        """A number of each neuron as a constant."""
        return self._constant(f"{layer.name}_{what}", _lifted(values, layer.shape, kind))

    def _when(self, layer: Layer, what: Literal["bias", "currents", "fires"]) -> str:
        """A Boolean value: whether this step is one of the timing; "" for a layer that is always active."""
        if layer.timing is None or getattr(layer.timing, what) == (0, self.whole.timesteps):
            return ""
        first, end = (
            self._constant(f"{layer.name}_{what}_{name}", np.asarray(step, np.int64))
            for name, step in zip(("first", "end"), getattr(layer.timing, what), strict=True)
        )
        late = self._add("GreaterOrEqual", "step", first, name=f"{layer.name}_{what}_late")
        early = self._add("Less", "step", end, name=f"{layer.name}_{what}_early")
        return self._add("And", late, early, name=f"{layer.name}_{what}_now")

    def _in_time(self, layer: Layer, what: Literal["bias", "currents"], value: str, kind: np.dtype) -> str:
        """``value`` in the steps of the timing, else 0."""
        on = self._when(layer, what)
        if not on:
            return value
        factor = self._cast(on, kind, f"{layer.name}_{what}_on")
        return self._add("Mul", value, factor, name=f"{layer.name}_{what}_if")

    def _readout(self, layer: Layer) -> None:
        """total += charge, from 0 again after the excluded steps; the logits of a step are the mean since then, or the
        total over the divisor.
        """
        kind = integer_type(self.whole, layer)
        charge = self._charge(layer, kind)
        total = self._state(layer.name, "total", kind, layer.initial, layer.shape)
        steps = self._add("Add", "step", self._constant("one", np.ones((), np.int64)), name="steps_done")
        if layer.start:
            start = self._constant("start", np.asarray(layer.start, np.int64))
            restarts = self._add("Equal", "step", start, name="restarts")
            total = self._add(
                "Where", restarts, self._constant("nothing", np.zeros((), kind)), total, name="total_read"
            )
            read = self._add("Sub", steps, start, name="steps_behind")
            reads = self._add("GreaterOrEqual", "step", start, name="reads")
            steps = self._add("Where", reads, read, steps, name="steps_read")
        after = self.next[layer.name] = self._add("Add", total, charge, name="total_next")
        unit = self._constant("unit", layer.unit.astype(np.float64).reshape(()))
        value = self._add("Mul", self._cast(after, DOUBLE, "total_wide"), unit, name="total_value")
        if self.whole.divisor:
            steps = self._constant("divisor", np.asarray(self.whole.divisor, np.int64))
        mean = self._add("Div", value, self._cast(steps, DOUBLE, "steps_wide"), name="mean")
        self.nodes.append(Node("Cast", (mean,), "logits", {"to": FLOAT}))
        self.logits = Tensor("logits", FLOAT, layer.shape)

    def _charge(self, layer: Layer, kind: np.dtype) -> str:
        """What one step adds to the potentials; parts that never change are added first, and once."""
        parts = [
            self._in_time(layer, "currents", self._cast(self._currents[name], kind, f"{layer.name}_current"), kind)
            for name in layer.currents
        ]
        for term in layer.terms:
            parts += self._term(layer, term, kind)
        if layer.bias.any():
            parts.append(self._in_time(layer, "bias", self._number(layer, kind, "bias", layer.bias), kind))
        parts.sort(key=lambda name: name not in self._fixed)
        total = parts[0]
        for part in parts[1:]:
            total = self._add("Add", total, part, name=f"{layer.name}_charge")
        return total

    def _term(self, layer: Layer, term: Term, kind: np.dtype) -> list[str]:
        """The charge of one layer of weights."""
        levels = self._arranged(term, self.whole.table[term.source].shape)
        return self._sums(term, levels, peak(self.whole, term.source), kind, layer.shape)

    def _sums(self, term: Term, levels: str, level: int, kind: np.dtype, shape: tuple[int, ...]) -> list[str]:
        """W · levels in integers, one tensor for each digit of the weights."""
        if term.kind == "scale":
            weight = self._constant(f"{term.name}_weight", _lifted(term.weight, term.shape, kind))
            levels = self._cast(levels, kind, f"{term.name}_in")
            return [self._shaped(self._add("Mul", levels, weight, name=f"{term.name}_out"), shape, term)]
        found = []
        for digit, factor in digits(term, level):
            charge = self._cast(self._sum(term, levels, digit), kind, f"{term.name}_out")
            if factor != 1:
                shifted = self._constant(f"{term.name}_factor", np.asarray(factor, kind))
                charge = self._add("Mul", charge, shifted, name=f"{term.name}_out")
            found.append(self._shaped(charge, shape, term))
        return found

    def _sum(self, term: Term, levels: str, weight: NDArray) -> str:
        """Over the synapses of each neuron, float32."""
        name = f"{term.name}_weight"
        if term.kind == "linear":
            matrix = self._constant(name, np.ascontiguousarray(weight.T).astype(FLOAT))
            return self._add("MatMul", levels, matrix, name=f"{term.name}_sum")
        return self._add(
            "Conv", levels, self._constant(name, weight.astype(FLOAT)), name=f"{term.name}_sum", group=term.groups,
            strides=list(term.stride), pads=[*term.padding, *term.padding], dilations=list(term.dilation),
        )  # fmt: skip

    def _shaped(self, charge: str, shape: tuple[int, ...], term: Term) -> str:
        """In the shape of the layer, which can have lost axes of size 1."""
        return charge if outcome(term) == shape else self._reshape(charge, shape, term)

    def _arranged(self, term: Term, source: tuple[int, ...]) -> str:
        """The levels of a term's source, whose shape is ``source``, as (batch, *term.shape), float32."""
        levels = self._wires[term.source]
        index = None if term.index is None else term.index.reshape(-1)
        if index is not None and not np.array_equal(index, np.arange(np.prod(source))):
            flat = self._reshape(levels, (-1,), term)
            if index.min() < 0:  # −1 is the last position, which is a zero
                sides = self._constant(f"{term.name}_sides", np.array([0, 0, 0, 1], np.int64))
                flat = self._add("Pad", flat, sides, name=f"{term.name}_padded")
            positions = self._constant(f"{term.name}_index", index.astype(np.int64))
            levels, source = self._add("Gather", flat, positions, name=f"{term.name}_gathered", axis=1), index.shape
        return levels if tuple(source) == term.shape else self._reshape(levels, term.shape, term)

    def _reshape(self, tensor: str, shape: tuple[int, ...], term: Term) -> str:
        """0 keeps the batch."""
        sizes = self._constant(f"{term.name}_shape", np.array([0, *shape], np.int64))
        return self._add("Reshape", tensor, sizes, name=f"{term.name}_reshaped")


def sum_of(layer: str) -> str:
    """The key of the sum of a layer's levels, next to that of its potentials."""
    return f"{layer}, sum of levels"


def _lifted(values: NDArray, shape: tuple[int, ...], kind: np.dtype) -> NDArray:
    """``values``, which broadcast to ``shape``, with one axis for each of it and one for the batch."""
    return values.reshape((1,) * (1 + len(shape) - values.ndim) + values.shape).astype(kind)
