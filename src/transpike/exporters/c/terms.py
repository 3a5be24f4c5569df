"""The C text of one term: for every event of its source, add a row of weights to the potentials that it reaches."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from transpike.exporters.c.layout import (
    BYTES,
    Array,
    routes,
    sources_of,
    type_of,
    unsigned_type,
    x_of,
)
from transpike.lowering.whole import Integers, Term

PER_LINE = 24
CODES = 256
"""The most values that codes of 8 bits represent."""


def literal(values: Integers) -> str:
    """The values of an array, in lines."""
    flat = [str(value) for value in values.ravel().tolist()]
    return ",\n".join(",".join(flat[k : k + PER_LINE]) for k in range(0, len(flat), PER_LINE))


@dataclass
class Constants:
    """The constant arrays of the file: their declarations, size in bytes, and the checks of their lengths."""

    declarations: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    checks: list[tuple[str, str]] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)
    """Name of codes → that of the values which they represent."""
    bytes: int = 0

    def add(self, name: str, values: Integers, length: str = "") -> str:
        """The name of ``values``, declared in the narrowest type; equal ones have one name.

        ``length``: how the code computes their number.
        """
        content = hashlib.sha256(values.astype(np.int64).tobytes()).digest()
        if content in self.names:
            return self.names[content]
        self.names[content] = name
        kind = self.types[name] = type_of(values)
        self.declarations.append(f"static const {kind} {name}[{values.size}] = {{\n{literal(values)}}};")
        self.bytes += values.size * BYTES[kind]
        if length:
            self.checks.append((f"length_{name}", f"sizeof {name} / sizeof {name}[0] == {length}"))
        return name

    def add_weights(self, name: str, values: Integers, length: str) -> str:
        """As ``add``; few different values become codes of 8 bits and a table, where that is smaller."""
        known, codes = np.unique(values, return_inverse=True)
        wide = BYTES[type_of(values)]
        if len(known) > CODES or codes.size + known.size * wide >= codes.size * wide:
            return self.add(name, values, length)
        coded = self.add(f"{name}_code", codes.reshape(values.shape), length)
        self.tables[coded] = self.add(f"{name}_value", known)
        return coded


@dataclass(frozen=True, eq=False)
class Events:
    """Where the events of a source are: ``head`` opens the loop and declares e, and ``level`` unless all are 1."""

    head: str
    graded: bool


@dataclass(frozen=True, eq=False)
class Target:
    """What a term adds to: an expression, its type and its order in memory."""

    expression: str
    kind: str
    array: Array


class Terms:
    """Writes terms; remembers the constants, and the functions that add rows.

    ``coded``: weights of few different values, such as those of a logarithmic scale, are stored as codes.
    """

    def __init__(self, constants: Constants, coded: bool = False) -> None:
        self.constants = constants
        self.weights = constants.add_weights if coded else constants.add
        self.adders: dict[str, str] = {}

    def write(self, term: Term, name: str, source: Array, events: Events, target: Target) -> list[str]:
        """The lines of the loop over events. ``name``: the identifier of the term."""
        x = x_of(term, target.array)
        found = sources_of(term, source, x)
        body = [f"/* {comment(term.name)} */", events.head]
        if term.kind == "linear" and len(term.shape) == 1:
            return [*body, *self._linear(term, name, found, source, events, target), "}"]
        opening, closing = self._positions(name, found, source, x)
        write = {"conv": self._convolution, "linear": self._rows, "scale": self._scale}[term.kind]
        return [*body, *opening, *write(term, name, x, events, target), *closing, "}"]

    def _positions(self, name: str, found: Integers, source: Array, x: Array) -> tuple[list[str], list[str]]:
        """Lines that declare p, the position in x, for event e; and what closes them."""
        route = routes(found, source.size)
        if route.first is not None and route.to is not None:
            first = self.constants.add(f"first_{name}", route.first, str(source.size + 1))
            to = self.constants.add(f"to_{name}", route.to)
            return [
                f"for (int32_t j = (int32_t){first}[e]; j < (int32_t){first}[e + 1]; ++j) {{",
                f"const int32_t p = (int32_t){to}[j];",
            ], ["}"]
        if route.to is None:
            return ["const int32_t p = e;"], []
        nowhere = bool((route.to < 0).any())
        marked = np.where(route.to < 0, x.size, route.to)
        to = self.constants.add(f"to_{name}", marked, str(source.size))
        return [f"const int32_t p = (int32_t){to}[e];", *([f"if (p == {x.size}) continue;"] if nowhere else [])], []

    def _row(self, events: Events, target: Target, weights: str, offset: str, row: str, count: int) -> str:
        """One call that adds ``count`` weights from ``row`` on to the potentials from ``offset`` on."""
        kind = self.constants.types[weights]
        wide = target.kind if BYTES[target.kind] >= 4 else "int32_t"
        table = self.constants.tables.get(weights)
        values = self.constants.types[table] if table else ""
        words = ["add", kind, *(["codes_of", values] if table else []), "to", target.kind]
        name = "_".join(word.removesuffix("_t") for word in words) + ("_times" if events.graded else "")
        weight = "value[w[k]]" if table else "w[k]"
        known = f", const {values} *restrict value" if table else ""
        level, product = (", int32_t level", f"({wide})level * {weight}") if events.graded else ("", weight)
        self.adders[name] = (
            f"static inline void {name}("
            f"{target.kind} *restrict v, const {kind} *restrict w{known}, int32_t n{level}) {{\n"
            f"  for (int32_t k = 0; k < n; ++k) v[k] = ({target.kind})(v[k] + {product});\n}}"
        )
        to = f"{target.expression} + {offset}" if offset else target.expression
        given = f"{weights} + {row}{f', {table}' if table else ''}"
        return f"{name}({to}, {given}, {count}{', level' if events.graded else ''});"

    def _linear(
        self, term: Term, name: str, found: Integers, source: Array, events: Events, target: Target
    ) -> list[str]:
        """Rows in the orders of source and layer, so that nothing is looked up; equal rows are stored once."""
        outputs = len(term.weight)
        columns = np.zeros((source.size, outputs), np.int64)
        np.add.at(
            columns, found[found >= 0], target.array.stored(term.weight.T.reshape(-1, *target.array.shape))[found >= 0]
        )
        unique, which = np.unique(columns, axis=0, return_inverse=True)
        which = which.ravel()
        if unique.size * BYTES[type_of(unique)] + which.size * BYTES[unsigned_type(len(unique))] >= (
            columns.size * BYTES[type_of(columns)]
        ):
            weights = self.weights(f"w_{name}", columns, f"{source.size} * {outputs}")
            return [self._row(events, target, weights, "", f"e * {outputs}", outputs)]
        weights = self.weights(f"w_{name}", unique, f"{len(unique)} * {outputs}")
        rows = self.constants.add(f"row_{name}", which, str(source.size))
        return [self._row(events, target, weights, "", f"(int32_t){rows}[e] * {outputs}", outputs)]

    def _rows(self, term: Term, name: str, x: Array, events: Events, target: Target) -> list[str]:
        """A linear layer on the last axis of several positions."""
        outputs, inputs = term.weight.shape
        weights = self.weights(f"w_{name}", term.weight.T, f"{inputs} * {outputs}")
        return [self._row(events, target, weights, f"p / {inputs} * {outputs}", f"p % {inputs} * {outputs}", outputs)]

    def _scale(self, term: Term, name: str, x: Array, events: Events, target: Target) -> list[str]:
        values = x.spread(term.weight)
        factor = self.value(f"w_{name}", values, x, "p")
        wide = target.kind if BYTES[target.kind] >= 4 else "int32_t"
        product = f"({wide})level * {factor}" if events.graded else factor
        return [f"{target.expression}[p] = ({target.kind})({target.expression}[p] + {product});"]

    def value(self, name: str, values: Integers, array: Array, position: str, feature: str = "") -> str:
        """An expression for one of ``values`` (in memory order): a number, or an array for each feature or position.

        ``feature``: the variable that counts features, if there is one.
        """
        if (values == values[0]).all():
            return f"({values[0]})" if values[0] < 0 else str(values[0])
        features = array.memory_shape[-1]
        table = values.reshape(-1, features)
        if len(table) > 1 and (table == table[0]).all():
            return f"{self.constants.add(name, table[0], str(features))}[{feature or f'{position} % {features}'}]"
        return f"{self.constants.add(name, values, str(array.size))}[{position}]"

    def _convolution(self, term: Term, name: str, x: Array, events: Events, target: Target) -> list[str]:
        """Every kernel position that reaches an output; equal kernel positions (sums of windows) are stored once."""
        outputs, per_group, *kernel = term.weight.shape
        channels, *inner = x.shape
        count, taps = outputs // term.groups, prod(kernel)
        flat = term.weight.reshape(outputs, per_group, taps)
        slices, which = np.unique(flat, axis=2, return_inverse=True)
        which = which.ravel()
        if slices.shape[2] == taps:
            slices, which = flat, np.arange(taps)
        # row (channel of x, kernel position) → the weights of its group's outputs
        grouped = slices.reshape(term.groups, count, per_group, -1).transpose(0, 2, 3, 1)
        weights = self.weights(f"w_{name}", grouped, f"{channels} * {slices.shape[2]} * {count}")
        lines = coordinates(inner, channels)
        offset, tap, closing = "", "", 0
        for axis, size in enumerate(target.array.view[1:]):
            span = Span(kernel[axis], term.stride[axis], term.padding[axis], term.dilation[axis], size, axis)
            opening, index = span.loop()
            lines += opening
            closing += len([line for line in opening if line.startswith("for")])
            offset = f"({offset} * {size} + {span.output})" if offset else span.output
            if index:
                tap = f"({tap} * {kernel[axis]} + {index})" if tap else index
            elif tap:
                tap = f"{tap} * {kernel[axis]}"
        if slices.shape[2] == 1:
            tap = ""
        elif slices.shape[2] < taps:
            tap = f"(int32_t){self.constants.add(f'tap_{name}', which, str(taps))}[{tap}]"
        row = f"c * {slices.shape[2]} + {tap}" if tap else "c"
        group = f" + c / {per_group} * {count}" if term.groups > 1 else ""
        call = self._row(events, target, weights, f"{offset} * {outputs}{group}", f"({row}) * {count}", count)
        return [*lines, call, *["}"] * closing]


@dataclass(frozen=True)
class Span:
    """One axis of a window: which outputs the input at position q<axis> belongs to."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    size: int
    axis: int

    @property
    def output(self) -> str:
        return f"o{self.axis}"

    def loop(self) -> tuple[list[str], str]:
        """Lines that declare the output's coordinate, and the expression of the kernel position ("" if only one)."""
        a, reach = self.axis, (self.kernel - 1) * self.dilation
        if reach == 0 and self.stride == 1 and self.padding == 0:
            return [f"const int32_t o{a} = q{a};"], ""
        begin = f"o{a} * {self.stride}" if self.stride > 1 else f"o{a}"
        lines = [
            f"const int32_t l{a} = q{a}{f' + {self.padding}' if self.padding else ''};",
            f"const int32_t b{a} = last_window(l{a}, {self.stride}, {self.size});",
            f"for (int32_t o{a} = first_window(l{a}, {reach}, {self.stride}); o{a} <= b{a}; ++o{a}) {{",
        ]
        distance = f"l{a} - {begin}"
        if self.dilation == 1 or self.kernel == 1:
            return lines, f"({distance})" if self.kernel > 1 else ""
        lines += [f"const int32_t d{a} = {distance};", f"if (d{a} % {self.dilation} != 0) continue;"]
        return lines, f"d{a} / {self.dilation}"


WINDOWS = """/* The first and the last window that hold position l, which counts from the start of the padding. */
static inline int32_t first_window(int32_t l, int32_t reach, int32_t stride) {
  return l <= reach ? 0 : (l - reach + stride - 1) / stride;
}
static inline int32_t last_window(int32_t l, int32_t stride, int32_t size) {
  return l / stride < size ? l / stride : size - 1;
}"""


def coordinates(inner: Sequence[int], channels: int, p: str = "p") -> list[str]:
    """Lines that declare the feature c and the coordinates q0, q1 … of position ``p``, whose features lie together."""
    lines = [f"const int32_t c = {p} % {channels};"] if channels > 1 else ["const int32_t c = 0;"]
    below = channels
    for axis in reversed(range(len(inner))):
        over = f"{p} / {below}" if below > 1 else p
        lines.append(f"const int32_t q{axis} = {over}{f' % {inner[axis]}' if axis else ''};")
        below *= inner[axis]
    return lines


def comment(text: str) -> str:
    """``text`` for a comment or a string of C: letters, digits and marks that mean nothing there."""
    return re.sub(r"[^A-Za-z0-9 _.,:+>()\[\]-]", "_", text.replace("→", "->"))
