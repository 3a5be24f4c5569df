"""The C text of one step of a layer: charges from events, neurons, pooling."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from transpike.exporters.c.layout import Array
from transpike.exporters.c.plan import Plan
from transpike.exporters.c.rules import Numbers, level_lines
from transpike.exporters.c.terms import Constants, Events, Span, Target, Terms, coordinates
from transpike.lowering.whole import Entrance, Layer, Window
from transpike.lowering.whole_rules import ENDLESS


@dataclass(frozen=True, eq=False)
class Layers:
    """Writes layers; their numbers go into ``constants``."""

    plan: Plan
    constants: Constants
    terms: Terms

    def loops(self, array: Array, values: list[str]) -> list[str]:
        """Over all neurons i, and their features c if a value needs them."""
        features = array.memory_shape[-1]
        if any(value.endswith("[c]") for value in values):
            return [
                f"for (int32_t i = 0; i < {array.size};) {{",
                f"for (int32_t c = 0; c < {features}; ++c, ++i) {{",
            ]
        return [f"for (int32_t i = 0; i < {array.size}; ++i) {{"]

    def ends(self, array: Array, values: list[str]) -> list[str]:
        return ["}"] * len(self.loops(array, values))

    def charges(self, layer: Layer, target: Target, *, from_values: bool) -> list[str]:
        """The terms of ``layer`` whose sources are constant levels, or events."""
        lines = []
        for k, term in enumerate(layer.terms):
            source = self.plan.whole.table[term.source]
            values = isinstance(source, Entrance) and source.kind == "values"
            if values == from_values:
                lines += self.terms.write(
                    term,
                    self.plan.terms[layer.name, k],
                    self.plan.arrays[term.source],
                    self.events(term.source),
                    target,
                )
        return lines

    def events(self, name: str) -> Events:
        source = self.plan.whole.table[name]
        if isinstance(source, Entrance) and source.kind == "values":
            level = f"const int32_t e = i, level = {self.plan.parameter(name).argument}[i];\nif (level == 0) continue;"
            return Events(f"for (int32_t i = 0; i < {self.plan.size(name)}; ++i) {{\n{level}", True)
        plain = self.plan.identifier(name)
        graded, head = self.plan.is_graded(name), self.each(name)
        if graded:
            levels = f"{self.plan.parameter(name).argument}[e]" if isinstance(source, Entrance) else f"level_{plain}[i]"
            head += f"\nconst int32_t level = {levels};"
        return Events(head, graded)

    def each(self, name: str) -> str:
        """What begins a loop over the events e of a list."""
        plain = self.plan.identifier(name)
        return f"for (uint32_t i = 0; i < n_{plain}; ++i) {{\nconst int32_t e = (int32_t)list_{plain}[i];"

    def step(self, layer: Layer) -> list[str]:
        """Lines that compute a layer in a step, and list its events."""
        return self.maximum(layer) if layer.kind == "maximum" else self.neurons(layer)

    def neurons(self, layer: Layer) -> list[str]:
        plan, array, name = self.plan, self.plan.arrays[layer.name], self.plan.identifier(layer.name)
        kind = plan.potential_type(layer)
        wide = "int64_t" if kind == "int64_t" else "int32_t"
        lines = self.charges(layer, Target(f"s->v_{name}", kind, array), from_values=False)
        added, values = [], []
        if plan.current_type(layer):
            added.append(f"s->current_{name}[i]")
        elif layer.bias.any():
            values.append(self.terms.value(f"bias_{name}", array.spread(layer.bias), array, "i", "c"))
            added.append(self._when(layer, "bias", values[-1]))
        added += [self._when(layer, "currents", f"s->{plan.charge(one)}[i]") for one in layer.currents]
        potential = " + ".join([f"s->v_{name}[i]", *added])
        if layer.kind == "readout":
            if not added:
                return lines
            body = [f"s->v_{name}[i] = ({kind})({potential});"]
            return [*lines, *self.loops(array, values), *body, *self.ends(array, values)]
        numbers = self._numbers(layer, array, name)
        values += [value for value in vars(numbers).values() if value]
        waits = [] if self._when(layer, "fires", "") == "" else [
            f"if (!({self._condition(layer, 'fires')})) {{", f"s->v_{name}[i] = ({kind})u;", "continue;", "}"
        ]  # fmt: skip
        fire = self._spike if layer.rule.is_plain else self._levels
        return [
            *lines,
            f"uint32_t n_{name} = 0;",
            *self.loops(array, values),
            f"const {wide} u = {potential};",
            *waits,
            *fire(layer, name, kind, numbers, bool(added)),
            *self.ends(array, values),
        ]

    def _numbers(self, layer: Layer, array: Array, name: str) -> Numbers:
        """The numbers of a rule, as expressions."""
        given = {"threshold": layer.threshold}
        given |= {"below": layer.rule.below} if layer.rule.takes_back else {}
        if layer.rule.follow is not None:
            given |= {key: value for key, value in vars(layer.rule.follow).items() if (abs(value) < ENDLESS).any()}
        found = {
            key: self.terms.value(f"{key}_{name}", array.spread(value), array, "i", "c") for key, value in given.items()
        }
        return Numbers(**found)

    def _condition(self, layer: Layer, what: Literal["bias", "currents", "fires"]) -> str:
        """Whether the current step is one of those that the layer's timing calls so."""
        assert layer.timing is not None
        begin, end = getattr(layer.timing, what)
        return f"s->step > {begin} && s->step <= {end}" if begin else f"s->step <= {end}"

    def _when(self, layer: Layer, what: Literal["bias", "currents", "fires"], value: str) -> str:
        """``value`` in the steps of the timing, else 0."""
        always = layer.timing is None or getattr(layer.timing, what) == (0, self.plan.whole.timesteps)
        return value if always else f"({self._condition(layer, what)} ? {value} : 0)"

    @staticmethod
    def _spike(layer: Layer, name: str, kind: str, numbers: Numbers, added: bool) -> list[str]:
        """One spike where u reaches the threshold."""
        after = "0" if layer.reset == "zero" else f"({kind})(u - {numbers.threshold})"
        otherwise = [f"s->v_{name}[i] = ({kind})u;"] if added else []
        return [
            f"if (u >= {numbers.threshold}) {{",
            f"s->v_{name}[i] = {after};",
            f"list_{name}[n_{name}++] = (net_index)i;",
            *(["} else {", *otherwise] if otherwise else []),
            "}",
        ]

    def _levels(self, layer: Layer, name: str, kind: str, numbers: Numbers, added: bool) -> list[str]:
        """The level of the layer's rule, and what it leaves."""
        sent = f"s->sent_{name}[i]"
        lines = level_lines(layer, numbers, sent)
        if layer.rule.follow is not None:
            lines += [f"s->v_{name}[i] = ({kind})u;"] if added else []
        elif layer.reset == "zero":
            lines.append(f"s->v_{name}[i] = level != 0 ? 0 : ({kind})u;")
        else:
            lines.append(f"s->v_{name}[i] = ({kind})(u - level * {numbers.threshold});")
        lines.append("if (level != 0) {")
        if layer.rule.remembers:
            lines.append(f"{sent} = ({self.plan.sum_type(layer.name)})({sent} + level);")
        return [*lines, f"level_{name}[n_{name}] = (net_level)level;", f"list_{name}[n_{name}++] = (net_index)i;", "}"]

    def maximum(self, layer: Layer) -> list[str]:
        """An output fires when an input of its window has fired more often than any of them before."""
        if self.plan.is_graded(layer.name):
            return self._maximum_of_sums(layer)
        plan, name = self.plan, self.plan.identifier(layer.name)
        source, array = plan.arrays[layer.source], plan.arrays[layer.name]
        assert layer.pool is not None
        channels, inner = source.shape[0], source.shape[1:]
        x = Array("", source.shape, source.shape, True)
        order_of_source = np.empty(source.size, np.int64)
        order_of_source[source.positions] = x.positions
        counted, wins = self.winner(name)
        lines = [f"uint32_t n_{name} = 0;", self.each(layer.source)]
        if np.array_equal(order_of_source, np.arange(source.size)):
            lines.append("const int32_t p = e;")
        else:
            lines.append(f"const int32_t p = (int32_t){self.constants.add(f'order_{name}', order_of_source)}[e];")
        lines += [*counted, *coordinates(inner, channels)]
        offset, loops = "", 0
        for axis, size in enumerate(array.shape[1:]):
            span = self._span(layer.pool, axis, size)
            opening, _ = span.loop()
            lines += opening
            loops += len([line for line in opening if line.startswith("for")])
            offset = f"({offset} * {size} + {span.output})" if offset else span.output
        return [
            *lines,
            f"const int32_t o = {offset} * {channels} + c;",
            *wins,
            f"list_{name}[n_{name}++] = (net_index)o;",
            "}",
            *["}"] * loops,
            "}",
        ]

    def winner(self, name: str) -> tuple[list[str], list[str]]:
        """Lines for an input e, and those that begin what an output o does that it makes fire."""
        counted = f"const {self.plan.count_type} now = ++s->count_{name}[e];"
        return [counted], [f"if (now > s->top_{name}[o]) {{", f"s->top_{name}[o] = now;"]

    def _maximum_of_sums(self, layer: Layer) -> list[str]:
        """An output sends the change of the largest sum of levels in its window."""
        plan, name = self.plan, self.plan.identifier(layer.name)
        source, array = plan.arrays[layer.source], plan.arrays[layer.name]
        assert layer.pool is not None
        channels, inner = source.shape[0], source.shape[1:]
        places = np.empty(source.size, np.int64)  # in memory, for each position with features last
        places[Array("", source.shape, source.shape, True).positions] = source.positions
        place = "p"
        if not np.array_equal(places, np.arange(source.size)):
            place = f"{self.constants.add(f'order_{name}', places)}[p]"
        kind, pool = plan.sum_type(layer.name), layer.pool
        lines = [
            self.events(layer.source).head, f"s->sum_{name}[e] = ({kind})(s->sum_{name}[e] + level);", "}",
            f"uint32_t n_{name} = 0;", f"for (int32_t o = 0; o < {array.size}; ++o) {{",
            "int32_t best = INT32_MIN;", *coordinates(array.shape[1:], channels, "o"),
        ]  # fmt: skip
        position = ""
        for axis, size in enumerate(inner):
            start = f"q{axis} * {pool.stride[axis]} - {pool.padding[axis]}"
            lines += [
                f"for (int32_t k{axis} = 0; k{axis} < {pool.kernel[axis]}; ++k{axis}) {{",
                f"const int32_t x{axis} = {start} + k{axis};",
                f"if (x{axis} < 0 || x{axis} >= {size}) continue;",
            ]
            position = f"({position} * {size} + x{axis})" if position else f"x{axis}"
        return [
            *lines,
            f"const int32_t p = {position} * {channels} + c;",
            f"if (s->sum_{name}[{place}] > best) best = s->sum_{name}[{place}];",
            *["}"] * len(inner),
            f"if (best == s->top_{name}[o]) continue;",
            f"level_{name}[n_{name}] = (net_level)(best - s->top_{name}[o]);",
            f"s->top_{name}[o] = ({kind})best;",
            f"list_{name}[n_{name}++] = (net_index)o;",
            "}",
        ]

    @staticmethod
    def _span(pool: Window, axis: int, size: int) -> Span:
        return Span(pool.kernel[axis], pool.stride[axis], pool.padding[axis], 1, size, axis)
